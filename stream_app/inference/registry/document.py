"""The documents of a registry beside the artefacts: stage assignments, their history, and the status of each worker."""

from __future__ import annotations

from msgspec import Struct


class StageAssignment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The version on each stage, "" where there is none.

    Attributes:
        champion: Answers.
        previous: The champion before; workers keep it loaded.
        challenger: Answers `percent` of the users, in (0, 100), in place of the champion.
        shadow: Scores every batch and answers nothing.
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
    """One change of the stages: its number, action, author, time and reason, and the assignment since.

    `forced`: workers take the champion without the gate.
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
        """Number of the newest change; 0 without a change."""
        return self.history[-1].revision if self.history else 0

    @property
    def line_up(self) -> StageAssignment:
        """The current assignment."""
        return self.history[-1].line_up if self.history else StageAssignment()


class WorkerStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The status of one worker.

    Attributes:
        worker: Host and process id.
        seen_ms: Time of the worker's last poll of the registry, by the worker's clock.
        revision: Number of the last change that the worker has handled.
        serving: Version of the champion that the worker serves.
        outcome: Outcome of that change: "served", "refused" or "failed".
        reason: Why the change was refused or failed.
        figures: Figures of the gate.
        at_ms: Time of that change, from the change itself; 0 from a worker of an older release.
    """

    worker: str
    seen_ms: int
    revision: int
    serving: str
    outcome: str
    reason: str = ""
    figures: dict[str, float] = {}
    at_ms: int = 0
