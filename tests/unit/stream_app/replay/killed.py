"""Kill a replay after its last write, before it removes its checkpoint."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stream_app.replay.checkpoints.checkpoint import CheckpointFolder


class KilledError(Exception):
    """In place of a signal."""


def killed_at_the_end(monkeypatch: pytest.MonkeyPatch, replay: Callable[[], object]) -> None:
    """Run a replay until it removes its checkpoint."""

    def kill(_: CheckpointFolder) -> None:
        raise KilledError

    with monkeypatch.context() as killed:
        killed.setattr(CheckpointFolder, "remove", kill)
        with pytest.raises(KilledError):
            replay()
