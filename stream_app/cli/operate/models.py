"""`millrace models`: the registry's models and their stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_app.cli.settings import cli_settings
from stream_app.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_app.config import Settings
    from stream_app.inference.registry.document import Stages
    from stream_app.inference.registry.model_registry import ModelRegistry

_json = click.option("--json", "as_json", is_flag=True, help="One line of JSON.")


def _change_options(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--why", default="", help="Reason, for the history.")(command)
    command = click.option("--by", default="", help="Author, for the history; default: this user and machine.")(command)
    wait = click.option(
        "--wait",
        "wait_s",
        type=click.FloatRange(0),
        default=30.0,
        show_default=True,
        help="Seconds to wait for the workers' answers.",
    )
    return _json(wait(command))


@click.group("models")
def models() -> None:
    """List the models of a registry, and change their stages.

    \b
    Examples:
      millrace models add model/artifacts/demo
      millrace models promote demo-0a1b2c3d4e5f --why "first one"
      millrace models diff champion demo-9f8e7d6c5b4a
      millrace models shadow demo-9f8e7d6c5b4a
      millrace models challenge demo-9f8e7d6c5b4a --percent 10
      millrace models rollback --why "too many alerts"

    The registry is the setting model.registry (MILLRACE_MODEL_REGISTRY). A version may be shortened to a unique beginning;
    champion, previous, challenger and shadow name the version on that stage.
    """


@models.command("list")
@_json
def list_models(as_json: bool) -> None:
    """Show models, stages, workers, and the last changes."""
    from rich.console import Console

    from stream_app.admin.models import living, models_table, overview, workers_table
    from stream_app.clock import SystemClock

    registry, now_ms = _registry(cli_settings(announce=False)), SystemClock().now_ms()
    if as_json:
        click.echo(json.dumps(overview(registry, now_ms)))
        return
    console = Console()
    console.print(models_table(registry))
    workers = living(registry, now_ms)
    console.print(workers_table(workers) if workers else "no worker follows this registry now")
    for change in registry.stages().history[-5:]:
        console.print(f"{change.revision:>4}  {change.what}  by {change.by}  {change.why}", highlight=False)


@models.command("show")
@click.argument("version")
@_json
def show(version: str, as_json: bool) -> None:
    """Show the manifest of an artefact."""
    import msgspec

    from stream_app.inference.artifact import load_manifest

    registry = _registry(cli_settings(announce=False))
    folder = registry.folder(registry.resolve(version))
    manifest = msgspec.to_builtins(load_manifest(folder))
    features = [manifest.pop(name) for name in ("feature_names", "feature_medians", "feature_scales")]
    manifest = {**manifest, "features": len(features[0]), "folder": str(folder)}
    click.echo(json.dumps(manifest) if as_json else json.dumps(manifest, indent=2))


@models.command("add")
@click.argument("source")
@_json
def add(source: str, as_json: bool) -> None:
    """Copy an artefact into the registry, on no stage yet, after loading it as a worker would.

    SOURCE is a folder, or a version of a registered model in MLflow: mlflow:<tracking URI>#<model name>@<alias>, or /<version>
    in place of the alias.
    """
    import tempfile

    from stream_app.admin.models import check_artefact
    from stream_app.inference.registry.mlflow_source import MLFLOW_PREFIX, fetch_mlflow_artefact

    settings = cli_settings(announce=False)
    registry = _registry(settings)
    with tempfile.TemporaryDirectory(prefix="millrace-mlflow-") as folder:
        is_remote = source.startswith(MLFLOW_PREFIX)
        artefact = fetch_mlflow_artefact(source, Path(folder)) if is_remote else Path(source)
        checked = check_artefact(artefact, _loader(settings))
        version = registry.add(artefact)
    outcome = {"added": version, "registry": registry.place, "checked": checked}
    click.echo(json.dumps(outcome) if as_json else f"added {version} to {registry.place}: {checked}")


@models.command("remove")
@click.argument("version")
@_json
def remove(version: str, as_json: bool) -> None:
    """Delete an artefact that is on no stage."""
    registry = _registry(cli_settings(announce=False))
    version = registry.resolve(version)
    registry.remove(version)
    click.echo(json.dumps({"removed": version}) if as_json else f"removed {version} from {registry.place}")


@models.command("promote")
@click.argument("version")
@click.option("--force", is_flag=True, help="Skip the workers' gate.")
@click.option("--keep", is_flag=True, help="Keep it the champion even if a worker refuses it.")
@_change_options
def promote(version: str, force: bool, keep: bool, **options: Any) -> None:  # noqa: ANN401 (click)
    """Make a version the champion, and show the results of the workers' gates.

    The version is loaded and tested here first. If a worker refuses it, the previous champion returns, unless --keep is set.
    Exit status 1 if a worker refuses it or does not answer.
    """
    settings = cli_settings(announce=False)
    registry = _registry(settings)
    version = _loadable(settings, registry, version)
    stages = registry.promote(version, by=_by(options), why=options["why"], forced=force)
    outcome = _outcome(registry, stages, options["wait_s"])
    if outcome["refused"] and not keep:
        why = f"refused by {', '.join(outcome['refused'])}"
        outcome["withdrawn"] = registry.withdraw(stages.revision, by=_by(options), why=why).revision
    _print_outcome(outcome, as_json=options["as_json"])
    click.get_current_context().exit(1 if outcome["refused"] or outcome["silent"] else 0)


@models.command("rollback")
@_change_options
def rollback(**options: Any) -> None:  # noqa: ANN401 (click)
    """Make the previous model the champion again, at once and without the gate."""
    registry = _registry(cli_settings(announce=False))
    _finish(registry, registry.rollback(by=_by(options), why=options["why"]), options)


@models.command("shadow")
@click.argument("version", required=False)
@click.option("--none", "no_version", is_flag=True, help="End the present one.")
@_change_options
def shadow(version: str | None, no_version: bool, **options: Any) -> None:  # noqa: ANN401 (click)
    """Let a version score every event beside the champion, without publishing its answers."""
    settings = cli_settings(announce=False)
    registry = _registry(settings)
    resolved = _resolved(settings, registry, version, no_version=no_version)
    _finish(registry, registry.shadow(resolved, by=_by(options), why=options["why"]), options)


@models.command("challenge")
@click.argument("version", required=False)
@click.option("--percent", type=float, default=0.0, help="Share of the users, more than 0 and less than 100.")
@click.option("--none", "no_version", is_flag=True, help="End the present one.")
@_change_options
def challenge(version: str | None, percent: float, no_version: bool, **options: Any) -> None:  # noqa: ANN401
    """Let a version answer a percentage of the users; each user stays with one model."""
    settings = cli_settings(announce=False)
    registry = _registry(settings)
    resolved = _resolved(settings, registry, version, no_version=no_version)
    _finish(registry, registry.challenge(resolved, percent, by=_by(options), why=options["why"]), options)


@models.command("diff")
@click.argument("a")
@click.argument("b")
@click.option(
    "--inputs",
    type=click.Path(path_type=Path, exists=True),
    help="Recorded rows: an .npz with in_<tensor>, or an artefact's folder. Default: those of A.",
)
@_json
def diff(a: str, b: str, inputs: Path | None, as_json: bool) -> None:
    """Compare two models on recorded rows; A and B are versions, or folders.

    \b
    Example:
      millrace models diff champion model/artifacts/demo --inputs rows.npz
    """
    import msgspec

    from stream_app.admin.models import bars, compare, recorded_inputs

    settings = cli_settings(announce=False)
    folder_a, folder_b = _folder(settings, a), _folder(settings, b)
    loader, rows = _loader(settings), recorded_inputs(inputs or folder_a)
    left, right = loader.load(folder_a), loader.load(folder_b)
    with click.progressbar(length=len(next(iter(rows.values()))), label="scoring", file=click.get_text_stream("stderr")) as bar:
        deltas = compare(left, right, rows, lambda done, _: bar.update(done - bar.pos))
    if as_json:
        click.echo(json.dumps({"a": left.version, "b": right.version, **msgspec.structs.asdict(deltas)}))
        return
    click.echo(
        f"{left.version} against {right.version} on {deltas.rows} rows; alerts {deltas.alerts_a:.4f} and {deltas.alerts_b:.4f}"
    )
    click.echo("\n".join(bars(deltas)))


def _registry(settings: Settings) -> ModelRegistry:
    from stream_app.clock import SystemClock
    from stream_app.inference.registry.registry_factory import open_registry

    if not settings.model.registry:
        raise ConfigError(
            "model.registry is not set; set MILLRACE_MODEL_REGISTRY (or `registry` below [model] in millrace.toml) to a folder, "
            "as `models`"
        )
    return open_registry(settings.model.registry, SystemClock(), settings.worker.folder)


def _loader(settings: Settings) -> Any:  # noqa: ANN401 (RankerLoader, imported late)
    from dataclasses import replace

    from stream_app import wiring

    loader = wiring.build_loader(settings, wiring.build_engine(settings))
    return replace(loader, engine="auto") if loader.engine == "none" else loader  # for workers that do score


def _folder(settings: Settings, version: str) -> Path:
    if Path(version).is_dir():
        return Path(version)
    registry = _registry(settings)
    return registry.folder(registry.resolve(version))


def _resolved(settings: Settings, registry: ModelRegistry, version: str | None, *, no_version: bool) -> str:
    if no_version == (version is not None):
        raise click.UsageError("name a version, or give --none")
    return "" if version is None else _loadable(settings, registry, version)


def _loadable(settings: Settings, registry: ModelRegistry, version: str) -> str:
    """Resolve a version, and refuse it if no worker could load it."""
    from stream_app.admin.models import check_artefact

    resolved = registry.resolve(version)
    check_artefact(registry.folder(resolved), _loader(settings))
    return resolved


def _by(options: dict[str, Any]) -> str:
    from stream_app.admin.models import whoami

    return options["by"] or whoami()


def _finish(registry: ModelRegistry, stages: Stages, options: dict[str, Any]) -> None:
    outcome = _outcome(registry, stages, options["wait_s"])
    _print_outcome(outcome, as_json=options["as_json"])
    click.get_current_context().exit(1 if outcome["refused"] or outcome["silent"] else 0)


def _outcome(registry: ModelRegistry, stages: Stages, wait_s: float) -> dict[str, Any]:
    """Wait for the workers and return the result of a change."""
    import msgspec

    from stream_app.admin.models import await_workers
    from stream_app.clock import SystemClock

    change = stages.history[-1]
    done, silent = await_workers(registry, change, SystemClock(), wait_s)
    return {
        "revision": change.revision,
        "what": change.what,
        "line_up": msgspec.to_builtins(change.line_up),
        "workers": [msgspec.to_builtins(status) for status in done],
        "refused": [status.worker for status in done if status.outcome != "served"],
        "silent": silent,
    }


def _print_outcome(outcome: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(outcome))
        return
    click.echo(f"change {outcome['revision']}: {outcome['what']}")
    for status in outcome["workers"]:
        click.echo(f"  {status['worker']}: {status['outcome']}, serves {status['serving']} {status.get('reason', '')}".rstrip())
        figures = {name: round(value, 4) for name, value in status.get("figures", {}).items()}
        if figures:
            click.echo(f"    the gate found {figures}")
    for worker in outcome["silent"]:
        click.echo(f"  {worker}: no answer yet", err=True)
    if not outcome["workers"] and not outcome["silent"]:
        click.echo("  no worker follows this registry now; the next one to start will")
    if "withdrawn" in outcome:
        click.echo(f"  withdrawn by change {outcome['withdrawn']}: the previous champion serves again")
