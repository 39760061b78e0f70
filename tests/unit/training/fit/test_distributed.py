"""Several processes train one network: all end with the same weights, near those of one process with the same batches.

What dominates the time is that two processes import torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stream_app.errors import ConfigError
from tests.unit.training.toy import config, table, weights
from training.config import load_config
from training.cross_validation import cross_validate
from training.fit.loop import train
from training.jobs import TrainingJob, build_dataset
from training.report.console import TrainingConsole

CHECKOUT = Path(__file__).parents[4]
BALANCES = ["fixed", "gradnorm", "pcgrad"]
STILL: dict[str, Any] = {
    "network__dropout": 0.0,
    "network__noise": 0.0,
    "network__forget": 0.0,
}  # what is drawn differs between processes

PROGRAM = """
import sys
from pathlib import Path
import torch, torch.distributed as dist
from tests.unit.training.fit.test_distributed import BALANCES, STILL
from tests.unit.training.toy import config, table, weights
from training.fit.batch_losses import BatchLosses
from training.fit.loop import train

folder = Path(sys.argv[1])
dist.init_process_group("gloo")
for balance in BALANCES:
    trained = train(table(), config(balance=balance, **STILL), folder / balance)
    result = {"weights": weights(trained.network), "losses": trained.history[-1].validation}
    torch.save(result, folder / f"{balance}{dist.get_rank()}.pt")

# Broken off in the second of three epochs of 7 steps, whose losses set the weights of the third.
options, seen, training = config(balance="dwa", epochs=3, checkpoint_every_s=0.0), [], BatchLosses.training

def broken(self, rows):
    seen.append(1)
    if len(seen) == 11:
        raise KeyboardInterrupt
    return training(self, rows)

BatchLosses.training = broken
try:
    train(table(), options, folder / "dwa")
except KeyboardInterrupt:
    dist.barrier()
BatchLosses.training = training
resumed = weights(train(table(), options, folder / "dwa", resume=True).network)
torch.save({"resumed": resumed, "whole": weights(train(table(), options).network)}, folder / f"dwa{dist.get_rank()}.pt")
dist.destroy_process_group()
"""

THINGS = """
[network]
preset = "table_tiny"
[training]
epochs = 2
batch = 64
distil = 0.5
teacher_folds = 2
[source]
kind = "table"
numeric = ["long", "wide"]
[source.split]
kind = "random"
[[source.labels]]
name = "sold"
column = "sold"
kind = "binary"
positive = ["1"]
[[source.labels]]
name = "kept"
column = "kept"
kind = "binary"
positive = ["1"]
"""


def test_search_and_folds_are_refused_under_torchrun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    job = TrainingJob(config=load_config("tiny", {"source.split.kind": "folds"}), folder=tmp_path)
    console = TrainingConsole(quiet=True)
    for trains_alone in (lambda job, console: build_dataset(job, console.say), cross_validate):
        with pytest.raises(ConfigError, match=r"search and --folds: .* start it without torchrun"):
            trains_alone(job, console)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # two processes that import torch
def test_two_processes_end_with_the_same_weights_near_those_of_one(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    ran = subprocess.run([*launch, str(tmp_path)], check=False, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for balance in BALANCES:
        first, second = (torch.load(tmp_path / f"{balance}{rank}.pt", weights_only=True) for rank in (0, 1))
        assert torch.equal(first["weights"], second["weights"])
        assert first["losses"] == second["losses"]
        alone = train(table(), config(balance=balance, **STILL))
        torch.testing.assert_close(first["weights"], weights(alone.network), atol=2e-3, rtol=0.0)
        assert first["losses"] == pytest.approx(alone.history[-1].validation, rel=1e-2)
        assert len(list((tmp_path / balance).glob("events.out.tfevents.*"))) == 1  # one of them writes
    for rank in (0, 1):
        dwa = torch.load(tmp_path / f"dwa{rank}.pt", weights_only=True)
        assert torch.equal(dwa["resumed"], dwa["whole"])


@pytest.mark.slow  # two processes that import torch
def test_the_command_trains_network_and_controls_in_two_processes_and_one_of_them_prints(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    sizes = draw.normal(size=(240, 2))
    lines = [f"{a:.4f},{b:.4f},{int(a + b > 0)},{int(a > b)}" for a, b in sizes]
    (tmp_path / "things.csv").write_text("\n".join(["long,wide,sold,kept", *lines]) + "\n")
    (tmp_path / "things.toml").write_text(THINGS)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "training", "train"]
    options = [
        "--config",
        str(tmp_path / "things.toml"),
        "--data",
        str(tmp_path / "things.csv"),
        "--runs",
        str(tmp_path / "runs"),
    ]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    ran = subprocess.run(
        [*launch, *options, "--control", "single", "--control", "lightgbm", "--results", str(tmp_path / "results.json")],
        check=False,
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
    )
    [line] = ran.stdout.splitlines()
    assert set(json.loads(line)["metrics"]) == {"sold", "kept"}, ran.stderr
    report = json.loads((tmp_path / "runs" / "things" / "report.json").read_text())
    assert set(report["controls"]) == {"single task", "lightgbm"}
    assert all(set(of_control) == {"sold", "kept"} for of_control in report["controls"].values())
    assert (tmp_path / "runs" / "things" / "checkpoint.pt").exists()
    names = {row["name"] for row in json.loads((tmp_path / "results.json").read_text())["rows"]}
    assert names == {"mmoe", "single task (control)", "lightgbm (control)"}
