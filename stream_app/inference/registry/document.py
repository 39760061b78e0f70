"""What stands in a registry beside the artefacts: who serves, the changes that led to it, and what the workers say."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["StageAssignment", "StageChange", "Stages", "WorkerStatus"]


class StageAssignment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who serves: versions, "" where there is none.

    Attributes:
        champion: Answers.
        previous: Answered before; workers keep it loaded.
        challenger: Answers `percent` of the users in the champion's place, in (0, 100).
        shadow: Scores everything and answers nothing.
    """

    champion: str = ""
    previous: str = ""
    challenger: str = ""
    percent: float = 0.0
    shadow: str = ""

    def versions(self) -> frozenset[str]:
        """Return all versions that are in use."""
        return frozenset({self.champion, self.previous, self.challenger, self.shadow} - {""})


class StageChange(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of the stages: its number, what was done, by whom, when and why, and who serves since.

    `forced`: workers take the champion without asking the gate.
    """

    revision: int
    what: str
    by: str
    at_ms: int
    why: str = ""
    forced: bool = False
    line_up: StageAssignment = StageAssignment()


class Stages(Struct, frozen=True, kw_only=True):
    """The registry's document: the changes, oldest first."""

    history: list[StageChange] = []

    @property
    def revision(self) -> int:
        """Number of the newest change; 0 where nothing was decided yet."""
        return self.history[-1].revision if self.history else 0

    @property
    def line_up(self) -> StageAssignment:
        """Who serves now."""
        return self.history[-1].line_up if self.history else StageAssignment()


class WorkerStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one worker says of itself.

    Attributes:
        worker: Host and process.
        seen_ms: When it last looked at the registry, its own clock.
        revision: The change it has dealt with last.
        serving: Version of the champion it answers with.
        outcome: What came of that change: "served", "refused" or "failed".
        reason: Why it was refused or failed.
        figures: What the gate found.
        at_ms: When that change was made, as it says itself; 0 from a worker of an older release.
    """

    worker: str
    seen_ms: int
    revision: int
    serving: str
    outcome: str
    reason: str = ""
    figures: dict[str, float] = {}
    at_ms: int = 0
