"""Build and check model artefacts: `python -m trt_build --help`."""

from __future__ import annotations

from typing import Any

import click

from trt_build.cli_engine import bench, engine, gpu_run, inspect, library, refit
from trt_build.cli_onnx import calibrate, onnx, verify
from trt_build.errors import BuildError


class _Group(click.Group):
    """Turns our errors into one message and the exit status of their class."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (click's signature)
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BuildError as err:
            click.echo(f"trt_build: {err}", err=True)
            ctx.exit(err.exit_status)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Build a worker's model from a checkpoint, and verify it.

    Exit status: 0 success, 1 failure or a refused file, 2 wrong usage, 3 TensorRT is not installed, 4 there is no GPU.

    \b
    Examples:
      python -m trt_build onnx runs/demo/checkpoint.pt build/model.onnx
      python -m trt_build verify model/artifacts/demo --checkpoint runs/demo/checkpoint.pt
      python -m trt_build engine model/artifacts/demo --precision fp16
      python -m trt_build gpu-run model/artifacts/demo --rows rows.npz --out gpu-report
    """


for _command in (onnx, calibrate, verify, engine, refit, inspect, bench, gpu_run, library):
    main.add_command(_command)


if __name__ == "__main__":
    main()
