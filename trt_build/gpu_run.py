"""Every step that needs a GPU, in one run: build each precision, verify, refit, time, and write one report.

A failed step goes into the report and the run continues: time on a GPU machine is short, and later errors help as well.
"""

from __future__ import annotations

import json
import platform
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.progress import Progress

from model.checkpoint import Checkpoint
from model.commit import commit
from model.plan import PRECISIONS, Precision
from model.tensorrt.protocols import TensorRt
from trt_build.artifact_source import ArtifactSource, parse_onnx
from trt_build.engine.engine_from_onnx import EngineOptions
from trt_build.engine.plan_from_refit import check_refit, plan_from_refit
from trt_build.engine.plans import build_plan, default_path, write_plan
from trt_build.engine.report_from_engine import summary
from trt_build.engine.runtime import GpuDevice
from trt_build.errors import BuildError
from trt_build.export.ranges_from_rows import Ranges, ranges_from_rows
from trt_build.manifest import sha256_of
from trt_build.parity.bench import bench_plans
from trt_build.parity.parity_report import ParityVerdict, verify_onnx, verify_plan
from trt_build.parity.recorded import Arrays

BATCHES: Final = (1, 16, 64, 256, 1_024, 4_096)


@dataclass(frozen=True)
class GpuRun:
    """Options of a run.

    Attributes:
        source: the model.
        path: of the model; plans go beside it.
        rows: recorded rows.
        out: folder of the report.
        command: as typed.
        checkpoint: the network, to compare and to time with; None = compare with the fp32 ONNX file.
        precisions: to build.
        level: of the builds.
        timing_cache: see `EngineOptions`.
        failures: of the run so far.
    """

    source: ArtifactSource
    path: Path
    rows: Arrays
    out: Path
    command: str
    checkpoint: Checkpoint | None = None
    precisions: tuple[Precision, ...] = PRECISIONS
    level: int = 3
    timing_cache: Path | None = None
    failures: list[str] = field(default_factory=list)


def run_on_gpu(
    trt: TensorRt, device: GpuDevice, run: GpuRun, progress: Progress, report_line: Callable[[str], None]
) -> dict[str, Any]:
    """Run every step and write `report.json` and `report.md` into `run.out`; return the report.

    Its `fine` is true if every precision was built and is within its tolerances, and no step failed.
    """
    run.out.mkdir(parents=True, exist_ok=True)
    ranges = ranges_from_rows(parse_onnx(run.source.content, "the model"), run.rows) if "int8" in run.precisions else None
    verdicts: list[ParityVerdict] = []
    builds: dict[str, dict[str, Any]] = {}
    plans: list[Path] = []
    verdicts += verify_onnx(run.source, run.rows, run.precisions, run.checkpoint, ranges)
    for precision in run.precisions:
        report_line(f"building {precision}")
        with _collect_failure(run.failures, f"build {precision}"):
            path, builds[precision] = _build(trt, device, run, precision, ranges, progress)
            plans.append(path)
    for path in plans:
        report_line(f"verifying {path.name}")
        with _collect_failure(run.failures, f"verify {path.name}"):
            verdicts.append(verify_plan(trt, device, run.source, path, run.rows, run.checkpoint))
    refits: dict[str, Any] = {}
    with _collect_failure(run.failures, "refit"):
        refits = _refit(trt, device, run, progress, verdicts)
    times: dict[str, Any] = {}
    report_line("timing")
    with _collect_failure(run.failures, "bench"):
        times = bench_plans(trt, device, run.source, plans, run.rows, BATCHES, run.checkpoint)
    report = {
        "model": run.source.version,
        "gpu": device.name,
        "compute_capability": device.compute_capability,
        "tensorrt": trt.__version__,
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "commit": commit(),
        "command": run.command,
        "rows": len(next(iter(run.rows.values()))),
        "builds": builds,
        "verify": [verdict.to_json() for verdict in verdicts],
        "refit": refits,
        "bench": times.get("results", {}),
        "failures": run.failures,
        "fine": not run.failures and all(verdict.fine for verdict in verdicts),
    }
    (run.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (run.out / "report.md").write_text(markdown(report))
    return report


def markdown(report: dict[str, Any]) -> str:
    """Return the report as a page: tables of builds, verification and times, and the failures."""
    lines = [
        f"# {report['model']} on {report['gpu']} (compute capability {report['compute_capability']}), TensorRT "
        f"{report['tensorrt']}",
        "",
        f"`{report['command']}`, commit {report['commit']}, {report['machine']}, {report['rows']:,} recorded rows.",
        "",
        "| precision | build, s | bytes | layers |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {b['seconds']:.1f} | {b['bytes']:,} | {b['layers']} |" for name, b in report["builds"].items()),
        "",
        "| compared | task | largest | allowed | mean | best items agree | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for verdict in report["verify"]:
        for task, result in verdict["tasks"].items():
            overlap = "" if result["overlap"] is None else f"{result['overlap']:.2%}"
            lines.append(
                f"| {verdict['what']} | {task} | {result['largest']:.2g} | {result['largest_allowed']:.0e} | "
                f"{result['mean']:.1g} | {overlap} | {'fine' if result['fine'] else 'NOT FINE'} |"
            )
    lines += ["", "| what | batch | rows/s | p50, ms | p99, ms |", "| --- | --- | --- | --- | --- |"]
    for name, batches in report["bench"].items():
        lines += [
            f"| {name} | {n} | {t['rows_per_s']:,.0f} | {t['p50_ms']:.3f} | {t['p99_ms']:.3f} |" for n, t in batches.items()
        ]
    lines += ["", f"Refit: {json.dumps(report['refit'])}", "", "Failures:" if report["failures"] else "Nothing failed."]
    return "\n".join([*lines, *(f"- {failure}" for failure in report["failures"]), ""])


@contextmanager
def _collect_failure(failures: list[str], step: str) -> Iterator[None]:
    """Add an exception of the step to `failures` and continue behind it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - of torch, TensorRT and our own
        place = "" if isinstance(error, BuildError) else f" ({traceback.format_exception(error)[-2].strip().splitlines()[0]})"
        failures.append(f"{step}: {type(error).__name__}: {error}{place}")


def _build(
    trt: TensorRt, device: GpuDevice, run: GpuRun, precision: Precision, ranges: Ranges | None, progress: Progress
) -> tuple[Path, dict[str, Any]]:
    options = EngineOptions(precision, level=run.level, timing_cache=run.timing_cache)
    variant = run.source.in_precision(precision, ranges)
    plan, manifest, layers = build_plan(trt, device, run.source, variant, options, run.command, progress)
    path = default_path(run.path, precision, trt, device)
    write_plan(path, plan, manifest, layers)
    return path, {"seconds": manifest.build_seconds, "bytes": len(plan), "layers": manifest.layers, "summary": summary(layers)}


def _refit(trt: TensorRt, device: GpuDevice, run: GpuRun, progress: Progress, verdicts: list[ParityVerdict]) -> dict[str, Any]:
    """Build a refittable fp32 plan, put the same weights into it, and verify the result."""
    options = EngineOptions("fp32", refittable=True, level=run.level, timing_cache=run.timing_cache)
    variant = run.source.in_precision("fp32")
    plan, manifest, layers = build_plan(trt, device, run.source, variant, options, run.command, progress)
    check_refit(manifest, variant.manifest)
    built = plan_from_refit(trt, plan, manifest, variant.content)
    path = run.out / "refitted.plan"
    changed = msgspec.structs.replace(manifest, sha256=sha256_of(built.plan), refitted_from=manifest.sha256)
    write_plan(path, built.plan, changed, layers)
    verdicts.append(verify_plan(trt, device, run.source, path, run.rows, run.checkpoint))
    return {"build_seconds": manifest.build_seconds, "refit_seconds": round(built.seconds, 3), "bytes": len(built.plan)}
