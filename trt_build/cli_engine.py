"""The commands for a machine with a GPU: `engine`, `refit`, `inspect`, `bench`, `library show`, `gpu-run`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import click

from model.atomic_file import writable_folder
from model.plan import PRECISIONS, Precision
from trt_build.cli_onnx import FILE, SOURCE, command_line, precisions_from_text, rows_of
from trt_build.errors import BuildError

_TARGET: Final = click.Path(dir_okay=False, path_type=Path)
_FOLDER: Final = click.Path(file_okay=False, path_type=Path)
_CACHE: Final = Path(".millrace", "timing-cache")
_GIB: Final = 1 << 30


@click.command()
@click.argument("source", type=SOURCE)
@click.argument("target", type=_TARGET, required=False)
@click.option("--precision", type=click.Choice(PRECISIONS), help="[default: the file's; fp16 of an artefact]")
@click.option("--calibration", type=FILE, help="For int8: the file that `calibrate` wrote.")
@click.option("--profiles", default="", help="min:opt:max batches, with commas.  [default: 1:16:64,65:256:512,513:4096:8192]")
@click.option("--version-compatible", is_flag=True, help="Later releases of the same major version can load it.")
@click.option("--hardware-compatible", is_flag=True, help="All GPUs from Ampere on can run it.")
@click.option("--refittable", is_flag=True, help="Weights can be exchanged later (`refit`).")
@click.option("--level", type=click.IntRange(0, 5), default=3, show_default=True, help="Effort of the search for fast kernels.")
@click.option(
    "--workspace-gib", type=click.FloatRange(min=0, min_open=True), default=2.0, show_default=True, help="Scratch memory."
)
@click.option("--timing-cache", type=_FOLDER, help=f"Folder of measured kernels.  [default: {_CACHE}, where that can be written]")
def engine(source: Path, target: Path | None, **options: Any) -> None:  # noqa: ANN401 (options by name)
    """Build a TensorRT plan of SOURCE (an artefact's folder, or an ONNX file with its manifest) on this machine's GPU.

    Without TARGET the plan of an artefact goes into its folder `plans`, where a worker looks for it, and the plan of a file
    beside that file. The plan's manifest and the inspector's report are written beside the plan.

    \b
    Examples:
      python -m trt_build engine model/artifacts/demo
      python -m trt_build engine model/artifacts/demo --precision fp32 --refittable --version-compatible
      python -m trt_build engine build/model.onnx build/model.plan --profiles 1:8:64,65:256:1024
    """
    from trt_build.artifact_source import open_source
    from trt_build.engine.engine_from_onnx import EngineOptions
    from trt_build.engine.plans import build_plan, default_path, write_plan
    from trt_build.engine.profiles import DEFAULT_PROFILES, profiles_from_text
    from trt_build.engine.progress import display
    from trt_build.engine.report_from_engine import summary
    from trt_build.engine.runtime import require_gpu, require_tensorrt
    from trt_build.export.ranges_from_rows import read_ranges

    opened = open_source(source)
    own: Precision = "fp16" if source.is_dir() else opened.manifest.precision
    build = EngineOptions(
        precision=options["precision"] or own,
        profiles=profiles_from_text(options["profiles"]) if options["profiles"] else DEFAULT_PROFILES,
        workspace_bytes=int(options["workspace_gib"] * _GIB),
        **{name: options[name] for name in ("version_compatible", "hardware_compatible", "refittable", "level")},
    )
    variant = opened.in_precision(build.precision, read_ranges(options["calibration"]) if options["calibration"] else None)
    trt, device = require_tensorrt(), require_gpu()
    build = replace(
        build, timing_cache=timing_cache_folder(options["timing_cache"] or _CACHE, required=bool(options["timing_cache"]))
    )
    with display() as progress:
        plan, manifest, report = build_plan(trt, device, opened, variant, build, command_line(), progress)
    path = target or default_path(source, build.precision, trt, device)
    write_plan(path, plan, manifest, report)
    click.echo(f"{summary(report)}; {len(plan):,} bytes in {manifest.build_seconds:.1f} s on {device.name}", err=True)
    click.echo(
        json.dumps({"plan": str(path), "precision": build.precision, "seconds": manifest.build_seconds, "bytes": len(plan)})
    )


@click.command()
@click.argument("plan", type=FILE)
@click.argument("source", type=SOURCE)
@click.argument("target", type=_TARGET)
def refit(plan: Path, source: Path, target: Path) -> None:
    """Put the weights of SOURCE (an artefact's folder or an ONNX file) into PLAN and write the plan to TARGET, without a build.

    PLAN must have been built with --refittable, of a network of the same structure.

    \b
    Example:
      python -m trt_build refit yesterday/plans/fp16.plan today today/plans/fp16.plan
    """
    import msgspec

    from trt_build.artifact_source import open_source
    from trt_build.engine.plan_from_refit import check_refit, plan_from_refit
    from trt_build.engine.plan_runner import engine_of
    from trt_build.engine.plans import check_fits, read_plan, write_plan
    from trt_build.engine.report_from_engine import report_from_engine
    from trt_build.engine.runtime import require_gpu, require_tensorrt
    from trt_build.manifest import sha256_of

    content, manifest = read_plan(plan)
    opened = open_source(source)
    variant = opened.in_precision(manifest.precision)
    check_refit(manifest, variant.manifest)
    trt, device = require_tensorrt(), require_gpu()
    check_fits(manifest, trt, device)
    built = plan_from_refit(trt, content, manifest, variant.content)
    engine_now = engine_of(trt, built.plan, version_compatible=manifest.version_compatible)
    changed = msgspec.structs.replace(
        manifest,
        sha256=sha256_of(built.plan),
        model_version=opened.version,
        model_sha256=opened.manifest.source_sha256,
        onnx_sha256=variant.manifest.sha256,
        weights_sha256=opened.manifest.weights_sha256,
        build_seconds=round(built.seconds, 3),
        command=command_line(),
        refitted_from=manifest.sha256,
    )
    write_plan(target, built.plan, changed, report_from_engine(trt, engine_now))
    click.echo(json.dumps({"plan": str(target), "seconds": round(built.seconds, 3), "model": opened.version}))


@click.command()
@click.argument("path", type=FILE)
def inspect(path: Path) -> None:
    """Print the content of a plan or an ONNX file as a JSON document.

    For a plan: its manifest and the inspector's report of its build (no GPU needed). For an ONNX file: its manifest, the number
    of nodes by operator, and the bytes of weights by type.

    \b
    Examples:
      python -m trt_build inspect model/artifacts/demo/plans/fp16-sm90-trt10.15.1.29.plan
      python -m trt_build inspect build/fp16.onnx
    """
    import msgspec

    from model.plan import PLAN_SUFFIX
    from trt_build.artifact_source import open_source, parse_onnx
    from trt_build.engine.plans import read_plan, report_beside
    from trt_build.export.graph import contents

    if path.suffix == PLAN_SUFFIX:
        _, manifest = read_plan(path)
        content = {"manifest": msgspec.to_builtins(manifest), **report_beside(path, manifest)}
    else:
        opened = open_source(path)
        content = {"manifest": msgspec.to_builtins(opened.manifest), **contents(parse_onnx(opened.content, str(path)))}
    click.echo(json.dumps(content, indent=1))


@click.command()
@click.argument("source", type=SOURCE)
@click.option("--plan", "plans", type=FILE, multiple=True, help="May be repeated.  [default: every plan of SOURCE]")
@click.option("--rows", type=SOURCE, help="Recorded rows.  [default: the artefact's samples]")
@click.option("--batches", default="1,16,64,256,1024,4096", show_default=True, help="Batch sizes, with commas.")
@click.option("--checkpoint", type=FILE, help="Time eager torch and torch.compile with CUDA graphs beside it.")
def bench(source: Path, plans: tuple[Path, ...], rows: Path | None, batches: str, checkpoint: Path | None) -> None:
    """Time plans of SOURCE on this machine's GPU: rows a second, p50 and p99 for each batch size. Prints one line of JSON.

    \b
    Examples:
      python -m trt_build bench model/artifacts/demo
      python -m trt_build bench model/artifacts/demo --checkpoint runs/demo/checkpoint.pt --batches 1,256,4096
    """
    from model.checkpoint import load_checkpoint
    from trt_build.artifact_source import open_source
    from trt_build.engine.plans import plans_of
    from trt_build.engine.runtime import require_gpu, require_tensorrt
    from trt_build.parity.bench import bench_plans

    sizes = [int(part) for part in batches.split(",")]
    opened = open_source(source)
    recorded = rows_of(source, opened, rows, 0)
    network = load_checkpoint(checkpoint) if checkpoint else None
    trt, device = require_tensorrt(), require_gpu()
    times = bench_plans(trt, device, opened, list(plans) or plans_of(source), recorded, sizes, network)
    click.echo(json.dumps(times))


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
        timing_cache=timing_cache_folder(options["timing_cache"], required=True) if options["timing_cache"] else None,
    )
    trt, device = require_tensorrt(), require_gpu()
    with display() as progress:
        report = run_on_gpu(trt, device, run, progress, lambda line: click.echo(line, err=True))
    for failure in report["failures"]:
        click.echo(failure, err=True)
    click.echo(json.dumps({"fine": report["fine"], "failures": len(report["failures"]), "report": str(run.out / "report.md")}))
    sys.exit(0 if report["fine"] else 1)


def timing_cache_folder(folder: Path, *, required: bool) -> Path | None:
    """Return the folder if it can be written; else None, or if it is required an error before a build of minutes."""
    try:
        return writable_folder(folder)
    except OSError as err:
        if required:
            raise BuildError(
                f"--timing-cache {folder} cannot be written: {err.strerror}. Fix: name a folder of this user"
            ) from err
        click.echo(f"trt_build: {folder} cannot be written ({err.strerror}): every kernel is measured, none kept", err=True)
        return None
