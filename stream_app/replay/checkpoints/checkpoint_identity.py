"""Identify the replay that a checkpoint belongs to, and resume a replay from its checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from stream_app.config import ModelSettings, Settings
from stream_app.errors import ConfigError
from stream_app.logs.log_issues import LogIssues
from stream_app.replay.checkpoints.checkpoint import CheckpointFolder, ReplayCheckpoint, Resumable
from stream_app.replay.replay_run import ReplaySummary

_CHECKPOINTS: Final = ".replay"


def checkpoints_in(out: Path, settings: Settings, *parts: str) -> CheckpointFolder:
    """Return the checkpoint folder of a replay that writes its answers to `out`; `parts` identify the log and the options."""
    model, key = settings.model, settings.privacy.id_key.get_secret_value()
    identity = (model.path, *model_identity(model), str(model.fraud_threshold), repr(settings.features), key, *parts)
    return CheckpointFolder(out / _CHECKPOINTS, hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16])


def snapshot_identity(path: Path | None) -> str:
    """Identify a snapshot by path, size and time of change; "" for none."""
    if path is None or not path.exists():
        return str(path or "")  # reading it raises the error
    stat = path.stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def model_identity(model: ModelSettings) -> list[str]:
    """Identify the model in its folder: the manifest has the version and the checksums of the other files."""
    if model.engine == "none":
        return [model.engine]
    return [model.engine, model.precision, manifest_identity(Path(model.path))]


def manifest_identity(folder: Path) -> str:
    """Return a hash of a model's manifest, or of no bytes if it cannot be read: loading the model raises the error."""
    try:
        manifest = (folder / "manifest.json").read_bytes()
    except OSError:
        manifest = b""
    return hashlib.sha256(manifest).hexdigest()


def begin(
    checkpoints: CheckpointFolder | None, replay: Resumable, summary: ReplaySummary, problems: LogIssues, *, resume: bool
) -> ReplayCheckpoint | None:
    """Restore a new replay, summary and problems from the last checkpoint; without `resume`, remove it.

    Returns:
        The checkpoint; None: the replay starts anew.

    Raises:
        ConfigError: The checkpoint is of another replay, or no checkpoint matches the state in the replay's store.
        InputFileError: The checkpoint has problems, and `problems` is strict.
    """
    store_position = replay.position if replay.each_batch else 0  # without a store a new replay has no state
    checkpoint = None
    if checkpoints is not None and resume:
        checkpoint = checkpoints.load(store_position if replay.each_batch else None)
    if store_position and checkpoint is None:
        # Resuming here would skip records whose answers the new output files lack.
        raise ConfigError(
            f"the --prefix of this replay holds the state of another one ({store_position:,} records), which no checkpoint in "
            "--out goes on from: take an empty one"
        )
    if checkpoints is None:
        return None
    if checkpoint is None:
        checkpoints.remove()
        return None
    summary.restore(checkpoint.counts)
    problems.restore(checkpoint.problems)
    checkpoints.restore(checkpoint, replay)
    return checkpoint
