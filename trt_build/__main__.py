"""Build and check model artefacts: `python -m trt_build --help`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    r"""Take a checkpoint to what a worker loads, and check it.

    \b
    Examples:
      python -m trt_build onnx runs/demo/checkpoint.pt /tmp/model.onnx
      python -m trt_build verify model/artifacts/demo
      python -m trt_build verify model/artifacts/demo --checkpoint runs/demo/checkpoint.pt
    """


@main.command()
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
def onnx(checkpoint: Path, target: Path) -> None:
    """Write the ONNX model of CHECKPOINT to TARGET."""
    from model.checkpoint import load_checkpoint  # torch is slow to import
    from trt_build.onnx_from_checkpoint import onnx_from_checkpoint

    target.parent.mkdir(parents=True, exist_ok=True)
    onnx_from_checkpoint(load_checkpoint(checkpoint), target)
    click.echo(f"{target}: {target.stat().st_size:,} bytes")


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None)
def verify(folder: Path, checkpoint: Path | None) -> None:
    """Check the artefact in FOLDER: checksums, recorded answers and, with --checkpoint, parity with the network.

    Prints one line of JSON; the exit status is 0 when all is well, 1 otherwise.
    """
    from model.checkpoint import load_checkpoint
    from trt_build.verify import verify_artifact

    wrong = verify_artifact(folder, load_checkpoint(checkpoint) if checkpoint else None)
    for sentence in wrong:
        click.echo(sentence, err=True)
    click.echo(json.dumps({"folder": str(folder), "fine": not wrong, "wrong": wrong}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
