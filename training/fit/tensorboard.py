"""Scalars for TensorBoard, in the folder of the run: `tensorboard --logdir runs`."""

from __future__ import annotations

from pathlib import Path

from training.fit.progress import EpochReport


class TensorBoardLog:
    """Writes the values of each epoch.

    Args:
        folder: folder of the run; None writes nothing.
        resumed: whether the training is resumed; if not, events of earlier trainings are removed.
    """

    def __init__(self, folder: Path | None, *, resumed: bool = False) -> None:
        self._writer = None
        if folder is not None:
            for old in [] if resumed else folder.glob("events.out.tfevents.*"):
                old.unlink()
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder))

    def write(self, report: EpochReport) -> None:
        """Write the values of an epoch at its number of steps."""
        if self._writer is None:
            return
        groups = {
            "loss_train": report.train,
            "loss_validation": report.validation,
            "weight": report.weights,
            "conflict": report.conflict,
        }
        groups |= {f"metric/{task}": values for task, values in report.metrics.items()}
        for group, values in groups.items():
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, report.steps)
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the file."""
        if self._writer is not None:
            self._writer.close()
