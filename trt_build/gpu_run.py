"""Everything that needs a GPU, in one go: build every precision, verify, refit, time, and write one report.

What fails is written into the report and the rest goes on: a GPU machine is lent for minutes, and the second error is of use
as well.
"""

from __future__ import annotations

import json
import platform
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.progress import Progress

from model.checkpoint import Checkpoint
from model.commit import commit
from model.plan import PRECISIONS, Precision
from model.tensorrt_protocols import TensorRt
from trt_build.artifact_source import ArtifactSource, parsed
from trt_build.engine.engine_from_onnx import EngineJob
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

__all__ = ["GpuRun", "markdown", "run_on_gpu"]

BATCHES: Final = (1, 16, 64, 256, 1_024, 4_096)


@dataclass(frozen=True)
class GpuRun:
    """What to do it with.

    Attributes:
        source: the model.
        path: where it lies; plans go beside it.
        rows: recorded rows.
        out: folder of the report.
        command: that was typed.
        checkpoint: the network, to compare and to time beside; None = the fp32 ONNX file is what is compared with.
        precisions: to build.
        level: of the builds.
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


def run_on_gpu(trt: TensorRt, device: GpuDevice, run: GpuRun, progress: Progress, say: Callable[[str], None]) -> dict[str, Any]:
    """Do all of it and write `report.json` and `report.md` into `run.out`; return the report.

    Its `fine` says whether every precision was built, is within its tolerances, and nothing failed.
    """
    run.out.mkdir(parents=True, exist_ok=True)
    ranges = ranges_from_rows(parsed(run.source.content, "the model"), run.rows) if "int8" in run.precisions else None
    verdicts: list[ParityVerdict] = []
    builds: dict[str, dict[str, Any]] = {}
    plans: list[Path] = []
    verdicts += verify_onnx(run.source, run.rows, run.precisions, run.checkpoint, ranges)
    for precision in run.precisions:
        say(f"building {precision}")
        with _Kept(run.failures, f"build {precision}"):
            path, builds[precision] = _built(trt, device, run, precision, ranges, progress)
            plans.append(path)
    for path in plans:
        say(f"verifying {path.name}")
        with _Kept(run.failures, f"verify {path.name}"):
            verdicts.append(verify_plan(trt, device, run.source, path, run.rows, run.checkpoint))
    refits: dict[str, Any] = {}
    with _Kept(run.failures, "refit"):
        refits = _refitted(trt, device, run, progress, verdicts)
    times: dict[str, Any] = {}
    say("timing")
    with _Kept(run.failures, "bench"):
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
        "verify": [verdict.plain() for verdict in verdicts],
        "refit": refits,
        "bench": times.get("results", {}),
        "failures": run.failures,
        "fine": not run.failures and all(verdict.fine for verdict in verdicts),
    }
    (run.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (run.out / "report.md").write_text(markdown(report))
    return report


def markdown(report: dict[str, Any]) -> str:
    """Return the report as a page: builds, verification and times, each a table, and what failed."""
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
        for task, found in verdict["tasks"].items():
            overlap = "" if found["overlap"] is None else f"{found['overlap']:.2%}"
            cells = [
                verdict["what"],
                task,
                f"{found['largest']:.2g}",
                f"{found['largest_allowed']:.0e}",
                f"{found['mean']:.1g}",
                overlap,
            ]
            lines.append(f"| {' | '.join(cells)} | {'fine' if found['fine'] else 'NOT FINE'} |")
    lines += ["", "| what | batch | rows/s | p50, ms | p99, ms |", "| --- | --- | --- | --- | --- |"]
    for name, batches in report["bench"].items():
        lines += [
            f"| {name} | {n} | {t['rows_per_s']:,.0f} | {t['p50_ms']:.3f} | {t['p99_ms']:.3f} |" for n, t in batches.items()
        ]
    lines += ["", f"Refit: {json.dumps(report['refit'])}", "", "Failures:" if report["failures"] else "Nothing failed."]
    return "\n".join([*lines, *(f"- {failure}" for failure in report["failures"]), ""])


class _Kept:
    """A context that writes what went wrong in it into a list, and goes on."""

    def __init__(self, failures: list[str], what: str) -> None:
        self._failures, self._what = failures, what

    def __enter__(self) -> None:
        """Begin the step."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        """Keep an error; Ctrl-C and the like go on."""
        if not isinstance(error, Exception):
            return False
        place = "" if isinstance(error, BuildError) else f" ({traceback.format_exception(error)[-2].strip().splitlines()[0]})"
        self._failures.append(f"{self._what}: {type(error).__name__}: {error}{place}")
        return True


def _built(
    trt: TensorRt, device: GpuDevice, run: GpuRun, precision: Precision, ranges: Ranges | None, progress: Progress
) -> tuple[Path, dict[str, Any]]:
    order = EngineJob(precision, level=run.level, timing_cache=run.timing_cache)
    typed = run.source.typed(precision, ranges)
    plan, manifest, layers = build_plan(trt, device, run.source, typed, order, run.command, progress)
    path = default_path(run.path, precision, trt, device)
    write_plan(path, plan, manifest, layers)
    return path, {"seconds": manifest.build_seconds, "bytes": len(plan), "layers": manifest.layers, "summary": summary(layers)}


def _refitted(trt: TensorRt, device: GpuDevice, run: GpuRun, progress: Progress, verdicts: list[ParityVerdict]) -> dict[str, Any]:
    """Build a refittable fp32 plan, put the same weights into it, and verify what comes out."""
    order = EngineJob("fp32", refittable=True, level=run.level, timing_cache=run.timing_cache)
    typed = run.source.typed("fp32")
    plan, manifest, layers = build_plan(trt, device, run.source, typed, order, run.command, progress)
    check_refit(manifest, typed.manifest)
    built = plan_from_refit(trt, plan, manifest, typed.content)
    path = run.out / "refitted.plan"
    changed = msgspec.structs.replace(manifest, sha256=sha256_of(built.plan), refitted_from=manifest.sha256)
    write_plan(path, built.plan, changed, layers)
    verdicts.append(verify_plan(trt, device, run.source, path, run.rows, run.checkpoint))
    return {"build_seconds": manifest.build_seconds, "refit_seconds": round(built.seconds, 3), "bytes": len(built.plan)}
