"""The commands around a GPU machine: `library` brings TensorRT, `gpu-run` does everything there in one go."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from trt_build.cli_onnx import FILE, SOURCE, command_line, rows_of
from trt_build.library import RELEASES, environment, fetch, installed, library_folder

__all__ = ["gpu_run", "library"]

_FOLDER: Final = click.Path(file_okay=False, path_type=Path)
_CHECKOUT: Final = Path(__file__).resolve().parents[1]
_CARRIED_BYTES: Final = 60_000_000  # a part, where 64 MiB travel at once and the checkout with it


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.group()
def library() -> None:
    """Bring NVIDIA's TensorRT into `.services/tensorrt`, for tests and for GPU machines without NVIDIA's index.

    \b
    Examples:
      python -m trt_build library fetch 10.15
      python -m trt_build library fetch 10.15 --for-building --python 3.12
      python -m trt_build library cut 10.15 parts
      python -m trt_build library join parts
      python -m trt_build library show
    """


@library.command("fetch")
@click.argument("release", type=click.Choice(list(RELEASES)))
@click.option("--for-building", is_flag=True, help="Also what building plans needs (230 MB more).")
@click.option("--python", default="", metavar="VERSION", help="Of the interpreter it is for, as 3.12.  [default: this one's]")
def fetch_release(release: str, *, for_building: bool, python: str) -> None:
    """Fetch RELEASE from Maven Central (needs `mvn`, about 540 MB) and PyPI, unless it is there."""
    found = fetch(_CHECKOUT, release, _say, for_building=for_building, python=python)
    click.echo(json.dumps({"release": release, "environment": environment(found)}))


@library.command("cut")
@click.argument("release", type=click.Choice([name for name, one in RELEASES.items() if one.jar]))
@click.argument("folder", type=_FOLDER)
@click.option("--most-bytes", type=int, default=_CARRIED_BYTES, show_default=True, help="Of a part.")
def cut_release(release: str, folder: Path, most_bytes: int) -> None:
    """Pack RELEASE, which must be fetched, into parts in FOLDER, to be carried a few at a time."""
    from trt_build.library import packed
    from trt_build.parts import cut

    archive = packed(_CHECKOUT, release)
    parts = cut(archive, folder, most_bytes)
    archive.unlink()
    click.echo(json.dumps({"parts": [part.name for part in parts], "bytes": sum(part.stat().st_size for part in parts)}))


@library.command("join")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def join_release(folder: Path) -> None:
    """Join the parts in FOLDER and unpack the release here."""
    from trt_build.library import unpacked
    from trt_build.parts import join

    found = unpacked(_CHECKOUT, join(folder, library_folder(_CHECKOUT)))
    click.echo(json.dumps({"release": found.release, "environment": environment(found)}))


@library.command("show")
def show() -> None:
    """Say which releases are here, and the environment variables with which a new Python process finds each."""
    click.echo(json.dumps({name: environment(one) for name, one in installed(_CHECKOUT).items()}))


@click.command("gpu-run")
@click.argument("source", type=SOURCE)
@click.option("--rows", type=SOURCE, help="Recorded rows.  [default: the artefact's samples]")
@click.option("--count", type=click.IntRange(64), help="Rows to calibrate and verify with.  [default: all]")
@click.option("--checkpoint", type=FILE, help="The network: compared with, and timed beside.")
@click.option("--precisions", default="fp32,tf32,fp16,bf16,int8", show_default=True, help="To build, with commas.")
@click.option("--level", type=click.IntRange(0, 5), default=3, show_default=True, help="How hard to look for fast kernels.")
@click.option("--timing-cache", type=_FOLDER, help="Folder of measured kernels.")
@click.option("--out", type=_FOLDER, default=Path("gpu-report"), show_default=True, help="Folder of the report.")
def gpu_run(source: Path, **options: Any) -> None:  # noqa: ANN401 (options by name)
    """Build every precision of SOURCE, verify, refit and time it, and write `report.json` and `report.md`; for a GPU machine.

    The exit status is 0 when all was built and is within its tolerances. Prints one line of JSON last.

    \b
    Examples:
      python -m trt_build gpu-run model/artifacts/demo --out gpu-report
      python -m trt_build gpu-run model/artifacts/demo --rows rows.npz --count 10000 --checkpoint runs/demo/checkpoint.pt
    """
    from model.checkpoint import load_checkpoint
    from trt_build.artifact_source import open_source
    from trt_build.engine.progress import display
    from trt_build.engine.runtime import device_here, tensorrt_here
    from trt_build.export.precision import PRECISIONS
    from trt_build.gpu_run import GpuRun, run_on_gpu

    asked = [name.strip() for name in options["precisions"].split(",")]
    unknown = [name for name in asked if name not in PRECISIONS]
    if unknown:
        raise click.UsageError(f"--precisions {', '.join(unknown)}: there is no such; they are {', '.join(PRECISIONS)}")
    opened = open_source(source)
    run = GpuRun(
        source=opened,
        path=source,
        rows=rows_of(source, opened, options["rows"], options["count"] or 0),
        out=options["out"],
        command=command_line(),
        checkpoint=load_checkpoint(options["checkpoint"]) if options["checkpoint"] else None,
        precisions=tuple(name for name in PRECISIONS if name in asked),
        level=options["level"],
        timing_cache=options["timing_cache"],
    )
    trt, device = tensorrt_here(), device_here()
    with display() as progress:
        report = run_on_gpu(trt, device, run, progress, _say)
    for failure in report["failures"]:
        _say(failure)
    click.echo(json.dumps({"fine": report["fine"], "failures": len(report["failures"]), "report": str(run.out / "report.md")}))
    sys.exit(0 if report["fine"] else 1)
