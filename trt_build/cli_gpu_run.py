"""The commands for a GPU machine: `library show` prints its TensorRT and GPU, `gpu-run` runs every step that needs a GPU."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from model.plan import PRECISIONS
from trt_build.cli_onnx import FILE, SOURCE, command_line, precisions_from_text, rows_of

_FOLDER: Final = click.Path(file_okay=False, path_type=Path)


def _report_line(line: str) -> None:
    click.echo(line, err=True)


@click.group()
def library() -> None:
    """TensorRT on this machine."""


@library.command("show")
def show() -> None:
    """Print the release of TensorRT and the GPU that the other commands use, as one line of JSON.

    The exit status is 3 without TensorRT, 4 without a GPU.
    """
    from trt_build.engine.runtime import require_gpu, require_tensorrt

    click.echo(json.dumps({"tensorrt": require_tensorrt().__version__, "gpu": asdict(require_gpu())}))


@click.command("gpu-run")
@click.argument("source", type=SOURCE)
@click.option("--rows", type=SOURCE, help="Recorded rows.  [default: the artefact's samples]")
@click.option("--count", type=click.IntRange(64), help="Rows to calibrate and verify with.  [default: all]")
@click.option("--checkpoint", type=FILE, help="The network, to compare and to time with.")
@click.option("--precisions", default="fp32,tf32,fp16,bf16,int8", show_default=True, help="To build, with commas.")
@click.option("--level", type=click.IntRange(0, 5), default=3, show_default=True, help="Effort of the search for fast kernels.")
@click.option("--timing-cache", type=_FOLDER, help="Folder of measured kernels.")
@click.option("--out", type=_FOLDER, default=Path("gpu-report"), show_default=True, help="Folder of the report.")
def gpu_run(source: Path, **options: Any) -> None:  # noqa: ANN401 (options by name)
    """Build every precision of SOURCE, verify, refit and time it, and write `report.json` and `report.md`; for a GPU machine.

    The exit status is 0 if every precision was built and is within its tolerances. Prints one line of JSON last.

    \b
    Examples:
      python -m trt_build gpu-run model/artifacts/demo --out gpu-report
      python -m trt_build gpu-run model/artifacts/demo --rows rows.npz --count 10000 --checkpoint runs/demo/checkpoint.pt
    """
    from model.checkpoint import load_checkpoint
    from trt_build.artifact_source import open_source
    from trt_build.engine.progress import display
    from trt_build.engine.runtime import require_gpu, require_tensorrt
    from trt_build.gpu_run import GpuRun, run_on_gpu

    precisions = precisions_from_text(options["precisions"])
    opened = open_source(source)
    run = GpuRun(
        source=opened,
        path=source,
        rows=rows_of(source, opened, options["rows"], options["count"] or 0),
        out=options["out"],
        command=command_line(),
        checkpoint=load_checkpoint(options["checkpoint"]) if options["checkpoint"] else None,
        precisions=tuple(name for name in PRECISIONS if name in precisions),
        level=options["level"],
        timing_cache=options["timing_cache"],
    )
    trt, device = require_tensorrt(), require_gpu()
    with display() as progress:
        report = run_on_gpu(trt, device, run, progress, _report_line)
    for failure in report["failures"]:
        _report_line(failure)
    click.echo(json.dumps({"fine": report["fine"], "failures": len(report["failures"]), "report": str(run.out / "report.md")}))
    sys.exit(0 if report["fine"] else 1)
