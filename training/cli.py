"""The commands of `python -m training`, which `millrace train` also starts. Commands import heavy modules themselves."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from model.presets import SHARINGS
from stream_app.errors import ConfigError, MillraceError
from stream_app.logs.ingest.mapping import packaged_mappings
from stream_app.reporting.json_values import json_tree
from training.config import BALANCES, config_names, load_config
from training.evaluation.protocol import PROTOCOLS

if TYPE_CHECKING:
    from training.config import TrainingConfig

_USAGE_STATUS: Final = 2
_FOLDER: Final = click.Path(file_okay=False, path_type=Path)
_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_PATH: Final = click.Path(path_type=Path)
_CONTROL: Final = click.Choice(["lightgbm", "single"])
_COUNT: Final[dict[str, Any]] = {"type": click.IntRange(1), "default": 1, "show_default": True}
_EXISTING: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_RUNS: Final = Path("runs")
_RESULTS: Final = Path("results/results.json")
_PACKAGED_ARRAY: Final = ".npz"


class _CommandGroup(click.Group):
    """A group with the default command `train`; our own errors become one message."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `train` where the arguments begin with an option of it."""
        if args and args[0].startswith("-") and args[0] not in {"-h", "--help"}:
            args = ["train", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (click's signature)
        """Run the command; exit with status 2 on wrong usage and settings, with 1 on other errors of ours."""
        try:
            return super().invoke(ctx)
        except MillraceError as err:
            click.echo(f"training: {err}", err=True)
            ctx.exit(_USAGE_STATUS if isinstance(err, ConfigError) else 1)


@click.group(cls=_CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train a multi-task network on any log or table, evaluate it, and build its artefact.

    \b
    Examples:
      python -m training --preset demo --out model/artifacts/demo
      python -m training train --data visits.csv --mapping visits.toml --tasks intent,next_action
      python -m training search --config cards --data transactions.parquet
      python -m training results
    """


_DATA: Final[tuple[Callable[..., Any], ...]] = (
    click.option(
        "--data", type=_PATH, multiple=True, help="File or folder to train on; may be repeated. A .npz file means --keep."
    ),
    click.option("--mapping", help=f"Mapping of the rows of a log: {', '.join(packaged_mappings())}, or a TOML file."),
    click.option("--config", "config_name", help="A name of training/configs, or a TOML file."),
    click.option("--preset", help="Old name of --config."),
    click.option("--tasks", help="Names of tasks, separated by commas.  [default: all that have labels]"),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the configuration; may be repeated."),
    click.option("--keep", type=_FILE, help="Cache of the training set, a .npz file: read if it exists, else written."),
    click.option("--run", "run_folder", type=_FOLDER, help="Folder of the run.  [default: runs/<configuration>]"),
    click.option("--runs", type=_FOLDER, default=_RUNS, show_default=True, help="Parent of the folders of runs."),
    click.option("--threads", **_COUNT, help="Threads of torch; several need idle cores."),
    click.option("--json", "quiet", is_flag=True, help="Print only the line of JSON."),
)


def _with_data(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_DATA):
        command = option(command)
    return command


@main.command()
@_with_data
@click.option("--protocol", type=click.Choice(sorted(PROTOCOLS)), help="How rows are split and evaluated.")
@click.option("--balance", help=f"How losses are combined: {', '.join(BALANCES)}, torchjd:<aggregator>.")
@click.option("--sharing", type=click.Choice(SHARINGS), help="How tasks share layers.")
@click.option("--seed", type=int, help="Of initial weights and batch order.")
@click.option("--seeds", **_COUNT, help="Number of trainings, with consecutive seeds.")
@click.option("--members", **_COUNT | {"type": click.IntRange(1, 1_000)}, help="Number of networks; their mean is evaluated.")
@click.option("--folds", is_flag=True, help="Cross-validation over the folds of the source.")
@click.option("--epochs", type=click.IntRange(1), help="Maximum number of passes over the data.")
@click.option("--resume", is_flag=True, help="Continue from the state in the run's folder.")
@click.option("--out", type=_FOLDER, help="Folder of the artefact; replaced once the new one is verified.")
@click.option("--results", type=_FILE, help="File of results to add the metrics to; its page is written too.")
@click.option("--name", default="", help="Name of the rows in --results.  [default: the sharing]")
@click.option("--control", "controls", type=_CONTROL, multiple=True, help="Model to train on the same rows for comparison.")
def train(**options: Any) -> None:  # noqa: ANN401 (options by name)
    """Train, evaluate on held-out data, write checkpoint and report, and the artefact that a worker loads (--out).

    Prints one line of JSON last. The exit status is 1 if the model does not beat its baselines or --out is refused; then no
    artefact is written.

    \b
    Examples:
      python -m training --preset demo --out model/artifacts/demo
      python -m training train --data visits.csv --mapping visits.toml --tasks fraud,intent
      python -m training train --config cards --data transactions.parquet --control lightgbm
      python -m training train --data clicks.csv.gz --mapping taobao --protocol sessions --sharing ple --seeds 3
      python -m training train --config beauty --data beauty.txt.gz --protocol leave_one_out
      python -m training train --data clicks.csv.gz --mapping taobao --set training.learning_rate=1e-3 --resume
    """
    import torch

    from training.jobs import TrainingJob
    from training.report.console import TrainingConsole
    from training.run import run

    changes = {
        "evaluation.protocol": options["protocol"],
        "training.balance": options["balance"],
        "network.sharing": options["sharing"],
        "training.seed": options["seed"],
        "training.epochs": options["epochs"],
    }
    config = _with_protocol(_config(options, changes), options["protocol"])
    data, cache = _files(options)
    torch.set_num_threads(options["threads"])
    job = TrainingJob(
        config=config,
        folder=options["run_folder"] or options["runs"] / config.name,
        data=data,
        cache=cache,
        resplit=options["protocol"] is not None,
        **{name: options[name] for name in ("resume", "seeds", "members", "out", "results", "name", "controls")},
        command=_command(sys.argv[1:]),
    )
    console = TrainingConsole(quiet=options["quiet"])
    if options["folds"]:
        from training.cross_validation import cross_validate

        _refuse_with_folds(options)
        click.echo(json.dumps(json_tree(cross_validate(job, console))))
        return
    report = run(job, console)
    if report:
        _finish(report)


@main.command()
@_with_data
@click.option("--trials", type=click.IntRange(1), help="Maximum number of trainings.")
def search(**options: Any) -> None:  # noqa: ANN401 (options by name)
    """Search for the best values of the keys in [search.ranges] of the configuration, on the validation range.

    Prints one line of JSON last: the best values, as --set takes them.

    \b
    Example:
      python -m training search --config cards --data transactions.parquet --trials 20
    """
    import torch

    from training.jobs import TrainingJob, apply_task_choice, build_dataset
    from training.report.console import TrainingConsole
    from training.search import search as run_search

    config = _config(options, {"search.trials": options["trials"]})
    data, cache = _files(options)
    torch.set_num_threads(options["threads"])
    folder = options["run_folder"] or options["runs"] / f"{config.name}-search"
    console = TrainingConsole(quiet=options["quiet"])
    dataset, config, _ = apply_task_choice(
        build_dataset(TrainingJob(config=config, folder=folder, data=data, cache=cache), console.say), config
    )
    result = run_search(
        dataset, config, folder, lambda trial: console.say(f"trial {trial.number}: {trial.value:.4f}  {trial.values}")
    )
    click.echo(
        json.dumps(json_tree({"best": result.best, "value": result.value, "trials": len(result.trials), "folder": folder}))
    )


@main.command()
@click.option("--results", type=_FILE, default=_RESULTS, show_default=True, help="The file of results.")
@click.option("--add", type=_EXISTING, multiple=True, help="File of results whose rows are added; may be repeated.")
def results(results: Path, add: tuple[Path, ...]) -> None:
    """Update the baselines and significance in a file of results, and write its page again.

    \b
    Examples:
      python -m training results --results results/results.json
      python -m training results --add runs/results.json
    """
    from training.report.results import add_rows, page_of, read_rows

    if not results.exists() and not add:
        raise ConfigError(f"--results {results}: no such file; name an existing one, or one to --add")
    add_rows(results, [row for file in add for row in read_rows(file)])
    click.echo(json.dumps({"rows": len(read_rows(results)), "page": str(page_of(results))}))


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(folder: Path) -> None:
    """Write `report.html` of a run's FOLDER again, from its `report.json`.

    \b
    Example:
      python -m training report runs/cards
    """
    from training.report.training_report import html_from_json

    page = folder / "report.html"
    page.write_text(html_from_json(json.loads((folder / "report.json").read_text())))
    click.echo(json.dumps({"page": str(page), "bytes": page.stat().st_size}))


def _config(options: dict[str, Any], changes: dict[str, Any]) -> TrainingConfig:
    """Return the configuration that the options name, with their changes."""
    if options["config_name"] and options["preset"] and options["config_name"] != options["preset"]:
        raise ConfigError(f"--config {options['config_name']} and --preset {options['preset']} name two configurations; give one")
    is_log = options["mapping"] or any(path.suffix != _PACKAGED_ARRAY for path in options["data"])
    config_name = options["config_name"] or options["preset"]
    missing = [path for path in options["data"] if path.suffix == _PACKAGED_ARRAY and not path.exists()]
    if missing and not config_name and not is_log:
        raise ConfigError(
            f"{missing[0]}: no such file; name a configuration (--config) to build the training set and write it there"
        )
    name = config_name or ("log" if is_log else "demo")
    overrides = {key: value for key, value in changes.items() if value is not None}
    if options["mapping"]:
        overrides["source.mapping"] = options["mapping"]
    if options["tasks"]:
        overrides["training.tasks"] = [task.strip() for task in options["tasks"].split(",")]
    for setting in options["settings"]:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: give KEY=VALUE, as training.batch=512; the configurations are {config_names()}")
        overrides[key.strip()] = value
    return load_config(name, overrides)


def _with_protocol(config: TrainingConfig, protocol: str | None) -> TrainingConfig:
    """Pass `--protocol` on to sources that split their rows themselves."""
    kind = config.source.get("kind")
    if protocol and kind == "simulation" and protocol != "time":
        raise ConfigError(f"--protocol {protocol}: a simulation is split by time of arrival only; leave --protocol out")
    return config.changed({"source.protocol": protocol}) if protocol and kind == "sequences" else config


def _refuse_with_folds(options: dict[str, Any]) -> None:
    conflicts = [name for name in ("out", "resume", "controls", "keep") if options[name]]
    conflicts += ["seeds"] * (options["seeds"] > 1)
    if conflicts:
        names = ", ".join(f"--{name.removesuffix('s') if name == 'controls' else name}" for name in conflicts)
        raise ConfigError(f"{names}: not with --folds, which trains and evaluates every fold once; leave one of them out")


def _files(options: dict[str, Any]) -> tuple[tuple[Path, ...], Path | None]:
    """Return the files to read, and the cache of the training set, which `--data` may name as well."""
    caches = [*([options["keep"]] if options["keep"] else []), *(p for p in options["data"] if p.suffix == _PACKAGED_ARRAY)]
    if len(caches) > 1:
        raise ConfigError(f"{' and '.join(map(str, caches))}: a training set has one cache file; give one of them")
    return tuple(path for path in options["data"] if path.suffix != _PACKAGED_ARRAY), caches[0] if caches else None


def _command(arguments: list[str]) -> str:
    """Return the command line, with file names in place of absolute paths, which mean nothing to other readers of a report."""
    return shlex.join(["python", "-m", "training", *map(_shortened, arguments)])


def _shortened(argument: str) -> str:
    option, equals, value = argument.partition("=")
    if equals and value.startswith("/"):
        return f"{option}={Path(value).name}"
    return Path(argument).name if argument.startswith("/") else argument


def _finish(report: dict[str, Any]) -> None:
    for sentence in [*report["not_beaten"], *([report["refused"]] if "refused" in report else [])]:
        click.echo(f"training: {sentence}", err=True)
    click.echo(json.dumps(json_tree(report)))
    sys.exit(0 if report["beats_floors"] and "refused" not in report else 1)
