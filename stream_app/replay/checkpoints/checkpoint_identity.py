"""Where a replay goes on: which replay a checkpoint is of, and bringing everything to where it was."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from stream_app.config import ModelSettings, Settings
from stream_app.errors import ConfigError
from stream_app.logs.log_issues import LogIssues
from stream_app.replay.checkpoints.checkpoint import CheckpointFolder, ReplayCheckpoint, Resumable, replay_identity
from stream_app.replay.replay_run import ReplaySummary

__all__ = ["begin", "checkpoints_in", "manifest_identity", "model_identity", "snapshot_identity"]

_CHECKPOINTS: Final = ".replay"


def checkpoints_in(out: Path, settings: Settings, *parts: str) -> CheckpointFolder:
    """Return where the checkpoints of a replay to this folder are.

    Args:
        out: Folder of the answers.
        settings: What a worker would be started with.
        parts: Log and options: what else makes it this replay.
    """
    return CheckpointFolder(
        out / _CHECKPOINTS,
        replay_identity(
            settings.model.path, *model_identity(settings.model), str(settings.model.fraud_threshold), repr(settings.features),
            settings.privacy.id_key.get_secret_value(), *parts,
        ),
    )  # fmt: skip


def snapshot_identity(path: Path | None) -> str:
    """Tell which snapshot a replay begins with: its name, and what changes when it is taken anew; "" for none."""
    if path is None or not path.exists():
        return str(path or "")  # who reads it says that it is not there
    stat = path.stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def model_identity(model: ModelSettings) -> list[str]:
    """Tell which model lies in the folder now: the manifest has the version, and the checksums of the other files."""
    if model.engine == "none":
        return [model.engine]
    return [model.engine, model.precision, manifest_identity(Path(model.path))]


def manifest_identity(folder: Path) -> str:
    """Return a hash of a model's manifest; of one that cannot be read too: loading the model says what is wrong."""
    try:
        manifest = (folder / "manifest.json").read_bytes()
    except OSError:
        manifest = b""
    return hashlib.sha256(manifest).hexdigest()


def begin(
    checkpoints: CheckpointFolder | None, replay: Resumable, summary: ReplaySummary, problems: LogIssues, *, resume: bool
) -> ReplayCheckpoint | None:
    """Bring replay, summary and problems to the last checkpoint.

    Args:
        checkpoints: Where they are; None: this replay keeps none.
        replay: Fresh.
        summary: Fresh.
        problems: Fresh.
        resume: Whether to go on; else the checkpoint is forgotten.

    Returns:
        The checkpoint; None: the replay begins anew.

    Raises:
        ConfigError: The checkpoint is of another replay, or the replay's store holds state of which there is none.
        InputFileError: There were problems before, and they are strict.
    """
    stands_at = replay.position if replay.each_batch else 0  # elsewhere a fresh replay has no state
    found = None
    if checkpoints is not None and resume:
        found = checkpoints.load(stands_at if replay.each_batch else None)
    if stands_at and found is None:
        # Going on would leave out what is done, of answers that begin anew.
        raise ConfigError(
            f"the --prefix of this replay holds the state of another one ({stands_at:,} records), which no checkpoint in --out "
            "goes on from: take an empty one"
        )
    if checkpoints is None:
        return None
    if found is None:
        checkpoints.remove()
        return None
    summary.restore(found.counts)
    problems.restore(found.problems)
    checkpoints.restore(found, replay)
    return found
