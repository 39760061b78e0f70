"""`make backtest-card`: the Fraud Detection Handbook's protocol, models and rules on one pass. Prints one line of JSON last.

    python -m benchmarks.backtest_card --data ../shared/data

Trains what has to be trained (benchmarks/cards/card_models.py), the network in a process of its own, then runs
`millrace backtest card-handbook` with it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.cards.card_models import CARDS_FILE, HANDBOOK, card_dataset, train_network, train_trees
from verification.harness.results import print_figures

_RUN: Final = Path("runs/backtest-card")
_SEVEN_DAYS: Final = 7
_CANDIDATES: Final = """
[candidates.network]
kind = "model"
path = "{run}/network"
adapt = "budget"
note = "training/configs/cards.toml, 2018-06-09..2018-07-31"

[candidates.trees]
kind = "trees"
path = "{run}/trees.txt"
note = "LightGBM on the whole catalogue, the same weeks"

[candidates.network_and_trees]
kind = "blend"
of = ["network", "trees"]
note = "mean of their log-odds"

[candidates.handbook_floor]
kind = "trees"
path = "{run}/handbook.txt"
note = "LightGBM on the handbook's own features, its one week of training (2018-07-25..31)"
"""


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--run", type=Path, default=_RUN)
    parser.add_argument("--epochs", type=int, help="Of the network, in place of the configuration's.")
    parser.add_argument("--save", action="store_true", help="Write the figures to benchmarks/results too.")
    parser.add_argument("--only-network", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cards, keep = arguments.data / CARDS_FILE, arguments.run / "training-set.npz"
    if arguments.only_network:
        train_network(cards, keep, arguments.run / "network", "python -m benchmarks.backtest_card", arguments.epochs)
        return
    if not cards.is_file():
        sys.exit(f"there are no card transactions at {cards}: name the folder of the data with --data")
    begin_s = time.monotonic()
    arguments.run.mkdir(parents=True, exist_ok=True)
    _say("computing the features of the training set")
    dataset = card_dataset(cards, keep)
    _say(f"{time.monotonic() - begin_s:.0f} s: training the network, and trees beside it")
    network = subprocess.Popen(_network_alone(arguments))
    train_trees(dataset, arguments.run / "trees.txt")
    train_trees(dataset, arguments.run / "handbook.txt", HANDBOOK, _SEVEN_DAYS)
    del dataset
    if network.wait():
        sys.exit("the network could not be trained; the reason stands above")
    _say(f"{time.monotonic() - begin_s:.0f} s: judging")
    config = _config(arguments.run)
    report = _backtest_report(config, cards, arguments.run)
    print_figures("backtest_card", {**report, "seconds": round(time.monotonic() - begin_s, 1)}, save=arguments.save)


def _network_alone(arguments: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.backtest_card", "--only-network", "--data", str(arguments.data)]
    return [*command, "--run", str(arguments.run), *([] if arguments.epochs is None else ["--epochs", str(arguments.epochs)])]


def _config(run: Path) -> Path:
    """Write the packaged configuration with the trained candidates."""
    from stream_app.backtest.config import packaged_file

    path = run / "backtest.toml"
    packaged = packaged_file("card-handbook.toml").read_text()
    path.write_text('name = "card-handbook"\n' + packaged + _CANDIDATES.format(run=run))
    return path


def _backtest_report(config: Path, cards: Path, run: Path) -> dict[str, Any]:
    command = ["-m", "stream_app", "backtest", str(config), "--data", str(cards), "--out", str(run / "report")]
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    report: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1])
    return report


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
