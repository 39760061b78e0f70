"""The commands that need no GPU: `onnx`, `calibrate`, `verify` (which also runs plans if there is a GPU)."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from model.contract import SAMPLES_FILE
from model.plan import PRECISIONS, Precision
from trt_build.errors import BuildError, NoDeviceError, NoTensorRTError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.checkpoint import Checkpoint
    from trt_build.artifact_source import ArtifactSource
    from trt_build.export.ranges_from_rows import Ranges
    from trt_build.parity.parity_report import ParityVerdict
    from trt_build.parity.recorded import Arrays

FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
SOURCE: Final = click.Path(exists=True, path_type=Path)
_TARGET: Final = click.Path(dir_okay=False, path_type=Path)
_CHECKPOINT: Final = ".pt"


def command_line() -> str:
    """Return the command line for a manifest; absolute paths by their last part, since another machine has other folders."""
    arguments = [Path(part).name if part.startswith("/") else part for part in sys.argv[1:]]
    return shlex.join(["python", "-m", "trt_build", *arguments])


@click.command()
@click.argument("checkpoint", type=FILE)
@click.argument("target", type=_TARGET)
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True, help="Types inside the file.")
@click.option("--calibration", type=FILE, help="For int8: the file that `calibrate` wrote for the fp32 file.")
def onnx(checkpoint: Path, target: Path, precision: Precision, calibration: Path | None) -> None:
    """Write the ONNX model of CHECKPOINT to TARGET, and its manifest beside it.

    Inputs and outputs are fp32 and int32 in every precision.

    \b
    Examples:
      python -m trt_build onnx runs/demo/checkpoint.pt build/model.onnx
      python -m trt_build onnx runs/demo/checkpoint.pt build/fp16.onnx --precision fp16
      python -m trt_build onnx runs/cards/checkpoint.pt build/int8.onnx --precision int8 --calibration build/ranges.json
    """
    from model.checkpoint import load_checkpoint  # torch is slow to import
    from trt_build.export.onnx_files import source_of_checkpoint, write_onnx

    source = source_of_checkpoint(load_checkpoint(checkpoint), command_line())
    variant = write_onnx(source, target, precision, _ranges(calibration), command_line())
    click.echo(f"{target}: {len(variant.content):,} bytes, {precision}, sha256 {variant.manifest.sha256[:12]}")


@click.command()
@click.argument("source", type=SOURCE)
@click.argument("target", type=_TARGET)
@click.option("--rows", type=SOURCE, help="Recorded rows.  [default: the artefact's samples]")
@click.option("--count", type=click.IntRange(1), help="Rows to use, spread over the file.  [default: all]")
@click.option(
    "--method", type=click.Choice(("percentile", "max")), default="percentile", show_default=True, help="Rule for a range."
)
@click.option("--percentile", type=click.FloatRange(50, 100), default=99.99, show_default=True, help="Of absolute values.")
def calibrate(source: Path, target: Path, rows: Path | None, count: int | None, method: Any, percentile: float) -> None:  # noqa: ANN401
    """Write the ranges of the inputs of int8 products in SOURCE (an artefact's folder or an fp32 ONNX file) to TARGET.

    \b
    Examples:
      python -m trt_build calibrate model/artifacts/demo build/ranges.json --rows rows.npz
      python -m trt_build calibrate build/model.onnx build/ranges.json --rows features --count 5000 --method max
    """
    import msgspec

    from trt_build.artifact_source import open_source, parse_onnx
    from trt_build.export.ranges_from_rows import ranges_from_rows

    opened = open_source(source)
    if opened.manifest.precision not in {"fp32", "tf32"}:
        raise BuildError(f"{source} is {opened.manifest.precision}. Fix: calibrate with the fp32 file that it was made of")
    recorded = rows_of(source, opened, rows, count or 0)
    ranges = ranges_from_rows(parse_onnx(opened.content, str(source)), recorded, method, percentile)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(msgspec.json.format(msgspec.json.encode(ranges), indent=1) + b"\n")
    click.echo(f"{target}: ranges of {len(ranges.largest)} tensors from {ranges.rows:,} rows")


@click.command()
@click.argument("source", type=SOURCE)
@click.option("--checkpoint", type=FILE, help="The network, as the reference; without it the fp32 ONNX file is.")
@click.option("--rows", type=SOURCE, help="Recorded rows.  [default: the artefact's samples]")
@click.option("--count", type=click.IntRange(5), help="Rows to compare, spread over the file.  [default: all]")
@click.option("--precisions", default="fp32", show_default=True, help="ONNX files to compare, with commas, or all.")
@click.option("--calibration", type=FILE, help="For int8: the file that `calibrate` wrote.")
@click.option("--plan", "plans", type=FILE, multiple=True, help="A plan to run as well; may be repeated. Needs a GPU.")
@click.option("--plans", "all_plans", is_flag=True, help="Run every plan of SOURCE. Needs a GPU.")
def verify(source: Path, **options: Any) -> None:  # noqa: ANN401 (options by name)
    """Check SOURCE: checksums, recorded answers, torch against ONNX against plans.

    SOURCE is an artefact's folder, an ONNX file with its manifest, or a checkpoint (.pt), which is exported to be compared.
    For every task: the largest and the mean difference with their limits, the worst rows, and the agreement of the best items.
    Prints one line of JSON last.

    \b
    Examples:
      python -m trt_build verify model/artifacts/demo --checkpoint runs/demo/checkpoint.pt
      python -m trt_build verify model/artifacts/demo --checkpoint runs/demo/checkpoint.pt --rows rows.npz --count 10000
      python -m trt_build verify model/artifacts/demo --rows rows.npz --precisions all --calibration build/ranges.json
      python -m trt_build verify runs/cards/checkpoint.pt --rows cards.npz --precisions fp32,fp16
      python -m trt_build verify model/artifacts/demo --rows rows.npz --plans
    """
    from model.checkpoint import load_checkpoint
    from trt_build.artifact_source import open_source
    from trt_build.engine.plans import plans_of
    from trt_build.export.onnx_files import source_of_checkpoint
    from trt_build.parity.parity_report import verify_onnx
    from trt_build.parity.verify import verify_artifact

    is_checkpoint = source.suffix == _CHECKPOINT
    checkpoint_path = source if is_checkpoint else options["checkpoint"]
    checkpoint = load_checkpoint(checkpoint_path) if checkpoint_path else None
    wrong = verify_artifact(source, checkpoint) if source.is_dir() else []
    verdicts: list[ParityVerdict] = []
    plans = [*options["plans"], *(plans_of(source) if options["all_plans"] else [])]
    status = 0
    if not wrong:
        opened = source_of_checkpoint(checkpoint, command_line()) if checkpoint and is_checkpoint else open_source(source)
        rows = rows_of(source, opened, options["rows"], options["count"] or 0)
        precisions = precisions_from_text(options["precisions"])
        for verdict in verify_onnx(opened, rows, precisions, checkpoint, _ranges(options["calibration"])):
            _show(verdict)
            verdicts.append(verdict)
        try:
            verdicts += _verify_plans(opened, plans, rows, checkpoint)
        except (NoTensorRTError, NoDeviceError) as err:
            click.echo(f"trt_build: {len(plans)} plans were not run: {err}", err=True)
            status = err.exit_status
    wrong += [f"{v.what}: {d.text()}" for v in verdicts for d in v.differences if not d.fine]
    for sentence in wrong:
        click.echo(sentence, err=True)
    comparisons = [verdict.to_json() for verdict in verdicts]
    click.echo(json.dumps({"folder": str(source), "fine": not wrong, "wrong": wrong, "comparisons": comparisons}))
    sys.exit(1 if wrong else status)


def rows_of(source: Path, opened: ArtifactSource, rows: Path | None, count: int) -> Arrays:
    """Return rows of the file `rows`, or the samples of an artefact.

    Raises:
        BuildError: `rows` is None for a single file, which has no samples.
    """
    from trt_build.parity.recorded import read_rows

    if rows is None and not source.is_dir():
        raise BuildError(f"{source} is a single file, which brings no samples. Fix: name recorded rows (--rows)")
    return read_rows(rows or source / SAMPLES_FILE, opened.tensors, count, opened.feature_names)


def _verify_plans(
    opened: ArtifactSource, plans: Sequence[Path], rows: Arrays, checkpoint: Checkpoint | None
) -> list[ParityVerdict]:
    if not plans:
        return []
    from trt_build.engine.runtime import require_gpu, require_tensorrt
    from trt_build.parity.parity_report import verify_plan

    trt, device = require_tensorrt(), require_gpu()
    verdicts = []
    for path in plans:
        verdicts.append(verify_plan(trt, device, opened, path, rows, checkpoint))
        _show(verdicts[-1])
    return verdicts


def _show(verdict: ParityVerdict) -> None:
    click.echo(f"{verdict.what}: {'fine' if verdict.fine else 'NOT FINE'}", err=True)
    for difference in verdict.differences:
        click.echo(f"  {difference.text()}", err=True)


def precisions_from_text(text: str) -> list[Precision]:
    """Return the precisions of a list with commas, or every precision for "all".

    Raises:
        click.UsageError: A name is not a precision.
    """
    names = list(PRECISIONS) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in PRECISIONS]
    if unknown:
        raise click.UsageError(f"--precisions {', '.join(unknown)}: there is no such; they are {', '.join(PRECISIONS)}")
    return [precision for name in names for precision in PRECISIONS if precision == name]


def _ranges(path: Path | None) -> Ranges | None:
    if path is None:
        return None
    from trt_build.export.ranges_from_rows import read_ranges

    return read_ranges(path)
