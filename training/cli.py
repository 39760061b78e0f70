"""The commands of `python -m training`, and of `millrace train`, which starts them. Heavy imports stand where they are needed."""

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

__all__ = ["main"]

_USAGE_STATUS: Final = 2
_FOLDER: Final = click.Path(file_okay=False, path_type=Path)
_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_EXISTING: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_RUNS: Final = Path("runs")
_RESULTS: Final = Path("results/results.json")
_PACKAGED_ARRAY: Final = ".npz"


class _Group(click.Group):
    """A group whose first command is meant where only options are given; our own errors become one message."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `train` in front of options that are not the group's own."""
        if args and args[0].startswith("-") and args[0] not in {"-h", "--help"}:
            args = ["train", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (click's signature)
        """Run the command; wrong usage and settings leave with status 2, other errors of ours with 1."""
        try:
            return super().invoke(ctx)
        except MillraceError as err:
            click.echo(f"training: {err}", err=True)
            ctx.exit(_USAGE_STATUS if isinstance(err, ConfigError) else 1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train a multi-task network on any log or table, judge it, and build its artefact.

    \b
    Examples:
      python -m training --preset demo --out model/artifacts/demo
      python -m training train --data visits.csv --mapping visits.toml --tasks intent,next_action
      python -m training search --config cards --data transactions.parquet
      python -m training results
    """


_DATA: Final[tuple[Callable[..., Any], ...]] = (
    click.option(
        "--data",
        type=click.Path(path_type=Path),
        multiple=True,
        help="File (or folder) to train on; may be repeated. A .npz file is as --keep.",
    ),
    click.option("--mapping", help=f"What the rows of a log are: {', '.join(packaged_mappings())}, or a TOML file."),
    click.option("--config", "config_name", help="A name of training/configs, or a TOML file."),
    click.option("--preset", help="The same as --config, by its old name."),
    click.option("--tasks", help="Names, with commas between them.  [default: all that have labels]"),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the configuration; may be repeated."),
    click.option("--keep", type=_FILE, help="Keep the training set in this .npz file, or take it from there."),
    click.option("--run", "run_folder", type=_FOLDER, help="Folder of the run.  [default: runs/<configuration>]"),
    click.option("--runs", type=_FOLDER, default=_RUNS, show_default=True, help="Where runs have their folders."),
    click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="More only pays on idle cores."),
    click.option("--json", "quiet", is_flag=True, help="Show nothing but the line of JSON."),
)


def _with_data(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_DATA):
        command = option(command)
    return command


@main.command()
@_with_data
@click.option("--protocol", type=click.Choice(sorted(PROTOCOLS)), help="How rows are split and answers judged.")
@click.option("--balance", help=f"How losses are added up: {', '.join(BALANCES)}, torchjd:<aggregator>.")
@click.option("--sharing", type=click.Choice(SHARINGS), help="What tasks share.")
@click.option("--seed", type=int, help="Of initial weights and batch order.")
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Trainings with seeds that follow each other."
)
@click.option("--members", type=click.IntRange(1, 1_000), default=1, show_default=True, help="Networks whose mean is judged.")
@click.option("--folds", is_flag=True, help="Judge every fold of a source whose split is by folds.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the data at most.")
@click.option("--resume", is_flag=True, help="Go on from the state in the run's folder.")
@click.option("--out", type=_FOLDER, help="Folder of the artefact; replaced when the new one is verified.")
@click.option("--results", type=_FILE, help="Put the figures into this file of results, and write its page.")
@click.option("--name", default="", help="What the figures go by in --results.  [default: the sharing]")
@click.option("--control", "controls", type=click.Choice(["lightgbm", "single"]), multiple=True, help="Train this too.")
def train(**options: Any) -> None:  # noqa: ANN401 (options by name)
    """Train, judge on held-out data, write checkpoint and report, and the artefact that a worker loads (--out).

    Prints one line of JSON last. The exit status is 1 when the model does not beat its floors or --out is refused; then no
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
    from training.jobs import TrainingJob
    from training.report.console import TrainingConsole
    from training.run import run, set_threads

    changes = {
        "evaluation.protocol": options["protocol"],
        "training.balance": options["balance"],
        "network.sharing": options["sharing"],
        "training.seed": options["seed"],
        "training.epochs": options["epochs"],
    }
    config = _with_protocol(_config(options, changes), options["protocol"])
    data, kept = _files(options)
    set_threads(options["threads"])
    order = TrainingJob(
        config=config,
        folder=options["run_folder"] or options["runs"] / config.name,
        data=data,
        kept=kept,
        resplit=options["protocol"] is not None,
        **{name: options[name] for name in ("resume", "seeds", "members", "out", "results", "name", "controls")},
        command=_command(sys.argv[1:]),
    )
    screen = TrainingConsole(quiet=options["quiet"])
    if options["folds"]:
        from training.cross_validation import cross_validate

        _refuse_with_folds(options)
        click.echo(json.dumps(json_tree(cross_validate(order, screen, options["members"]))))
        return
    report = run(order, screen)
    if report:
        _finish(report)


@main.command()
@_with_data
@click.option("--trials", type=click.IntRange(1), help="Trainings at most.")
def search(**options: Any) -> None:  # noqa: ANN401 (options by name)
    """Search for better values of what [search.ranges] of the configuration names, judged on the validation range.

    Prints one line of JSON last: the best values, as --set takes them.

    \b
    Example:
      python -m training search --config cards --data transactions.parquet --trials 20
    """
    from training.jobs import TrainingJob, dataset_of, with_tasks
    from training.report.console import TrainingConsole
    from training.run import set_threads
    from training.search import search as searched

    config = _config(options, {"search.trials": options["trials"]})
    data, kept = _files(options)
    set_threads(options["threads"])
    folder = options["run_folder"] or options["runs"] / f"{config.name}-search"
    screen = TrainingConsole(quiet=options["quiet"])
    dataset, config, _ = with_tasks(
        dataset_of(TrainingJob(config=config, folder=folder, data=data, kept=kept), screen.say), config
    )
    found = searched(
        dataset, config, folder, lambda trial: screen.say(f"trial {trial.number}: {trial.value:.4f}  {trial.values}")
    )
    click.echo(json.dumps(json_tree({"best": found.best, "value": found.value, "trials": len(found.trials), "folder": folder})))


@main.command()
@click.option("--results", type=_FILE, default=_RESULTS, show_default=True, help="The file of results.")
@click.option("--add", type=_EXISTING, multiple=True, help="Put the rows of this file of results into it; may be repeated.")
def results(results: Path, add: tuple[Path, ...]) -> None:
    """Settle what stands beside the figures of a file of results, and write the page beside it anew.

    \b
    Examples:
      python -m training results --results results/results.json
      python -m training results --add runs/results.json
    """
    from training.report.results import add_rows, page_of, read_rows

    if not results.exists() and not add:
        raise ConfigError(f"--results {results}: there is no such file; name one that is there, or one to --add")
    add_rows(results, [row for file in add for row in read_rows(file)])
    click.echo(json.dumps({"rows": len(read_rows(results)), "page": str(page_of(results))}))


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(folder: Path) -> None:
    """Draw `report.html` of a run's FOLDER anew, from its `report.json`.

    \b
    Example:
      python -m training report runs/cards
    """
    from training.report.training_report import html_from_json

    page = folder / "report.html"
    page.write_text(html_from_json(json.loads((folder / "report.json").read_text())))
    click.echo(json.dumps({"page": str(page), "bytes": page.stat().st_size}))


def _config(options: dict[str, Any], changes: dict[str, Any]) -> TrainingConfig:
    """Return the configuration that is meant, with what the options change."""
    if options["config_name"] and options["preset"] and options["config_name"] != options["preset"]:
        raise ConfigError(f"--config {options['config_name']} and --preset {options['preset']} name two configurations; give one")
    is_log = options["mapping"] or any(path.suffix != _PACKAGED_ARRAY for path in options["data"])
    named = options["config_name"] or options["preset"]
    lost = [path for path in options["data"] if path.suffix == _PACKAGED_ARRAY and not path.exists()]
    if lost and not named and not is_log:
        raise ConfigError(
            f"{lost[0]}: no such file; name a configuration (--config) if the training set is to be made and kept there"
        )
    name = named or ("log" if is_log else "demo")
    given = {key: value for key, value in changes.items() if value is not None}
    if options["mapping"]:
        given["source.mapping"] = options["mapping"]
    if options["tasks"]:
        given["training.tasks"] = [task.strip() for task in options["tasks"].split(",")]
    for setting in options["settings"]:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: give KEY=VALUE, as training.batch=512; the configurations are {config_names()}")
        given[key.strip()] = value
    return load_config(name, given)


def _with_protocol(config: TrainingConfig, protocol: str | None) -> TrainingConfig:
    """Return the configuration whose source splits as `--protocol` says, where a source splits in a way of its own."""
    kind = config.source.get("kind")
    if protocol and kind == "simulation" and protocol != "time":
        raise ConfigError(f"--protocol {protocol}: a simulation is split by time of arrival only; leave --protocol out")
    return config.changed({"source.protocol": protocol}) if protocol and kind == "sequences" else config


def _refuse_with_folds(options: dict[str, Any]) -> None:
    given = [name for name in ("out", "resume", "controls", "keep") if options[name]]
    given += ["seeds"] * (options["seeds"] > 1)
    if given:
        names = ", ".join(f"--{name.removesuffix('s') if name == 'controls' else name}" for name in given)
        raise ConfigError(f"{names}: not together with --folds, which trains and judges every fold once; leave one of them out")


def _files(options: dict[str, Any]) -> tuple[tuple[Path, ...], Path | None]:
    """Return the files to read, and the file that keeps the training set, which `--data` may name as well."""
    kept = [*([options["keep"]] if options["keep"] else []), *(p for p in options["data"] if p.suffix == _PACKAGED_ARRAY)]
    if len(kept) > 1:
        raise ConfigError(f"{' and '.join(map(str, kept))}: a training set is kept in one file; give one of them")
    return tuple(path for path in options["data"] if path.suffix != _PACKAGED_ARRAY), kept[0] if kept else None


def _command(arguments: list[str]) -> str:
    """Return what was typed, with names in place of absolute paths: a report goes to people who have the files somewhere else."""
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
