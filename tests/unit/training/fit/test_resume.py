"""A killed and resumed training ends with the same weights, bit by bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stream_app.errors import ContractError
from tests.unit.training.toy import config, table, weights
from training.fit.loop import train
from training.fit.progress import TrainingCallbacks
from training.fit.resume import STATE_FILE, load_state, save_state

CHECKOUT = Path(__file__).parents[4]
# A training in a process of its own that writes its state after each step, and stops to be killed at a certain one.
PROGRAM = """
import sys, time
from pathlib import Path
from tests.unit.training.toy import config, table
from training.fit.loop import train
from training.fit.progress import TrainingCallbacks

folder, balance, until = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def step(done, steps):
    if done == until:
        print("started", flush=True)
        time.sleep(60)

train(table(), config(balance=balance, epochs=3, checkpoint_every_s=0.0), folder, TrainingCallbacks(step=step), resume=True)
"""


def killed_at(step: int, folder: Path, balance: str) -> None:
    arguments = [sys.executable, "-c", PROGRAM, str(folder), balance, str(step)]
    with subprocess.Popen(arguments, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


@pytest.mark.slow  # a process that imports torch
def test_killed_and_resumed_it_has_the_same_weights_bit_by_bit(tmp_path: Path) -> None:
    killed_at(17, tmp_path, "torchjd:gradvac")  # in the third epoch; 7 steps each
    state = load_state(tmp_path)
    assert state is not None
    assert (state["at"]["epoch"], state["at"]["step"]) == (2, 2)  # the step it died in was not written
    goes_on_as_if_nothing_had_happened("torchjd:gradvac", tmp_path, 17)


@pytest.mark.parametrize("balance", ["fixed", "uncertainty", "dwa", "gradnorm", "pcgrad", "torchjd:pcd"])
def test_every_balance_resumes_from_its_state(balance: str, tmp_path: Path) -> None:
    def step(done: int, _: int) -> None:
        if done == 17:
            raise KeyboardInterrupt

    options = config(balance=balance, epochs=3, checkpoint_every_s=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(table(), options, tmp_path, TrainingCallbacks(step=step))
    goes_on_as_if_nothing_had_happened(balance, tmp_path, 17)


def goes_on_as_if_nothing_had_happened(balance: str, folder: Path, step: int) -> None:
    options = config(balance=balance, epochs=3, checkpoint_every_s=0.0)
    done: list[int] = []
    resumed = train(table(), options, folder, TrainingCallbacks(step=lambda step, _: done.append(step)), resume=True)
    whole = train(table(), options)
    assert done == list(range(step, 22))
    assert torch.equal(weights(resumed.network), weights(whole.network))
    assert [replace(report, seconds=0.0, ms_per_step=0.0) for report in resumed.history] == [
        replace(report, seconds=0.0, ms_per_step=0.0) for report in whole.history
    ]


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = train(table(), config(), tmp_path)
    done: list[int] = []
    again = train(table(), config(), tmp_path, TrainingCallbacks(step=lambda step, _: done.append(step)), resume=True)
    assert done == []
    assert torch.equal(weights(again.network), weights(first.network))
    assert again.history == first.history


def test_without_resume_it_begins_anew_and_without_a_state_too(tmp_path: Path) -> None:
    done: list[int] = []
    events = TrainingCallbacks(step=lambda step, _: done.append(step))
    train(table(), config(epochs=1), tmp_path, events, resume=True)
    train(table(), config(epochs=1), tmp_path, events)
    assert done == [*range(1, 8)] * 2
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1  # of the later one


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 32}, r"config\.training\.batch was 64, is 32"),
        ({"network__tower": 8}, r"config\.network\.tower was None, is 8"),
    ],
)
def test_resuming_with_another_configuration_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    train(table(), config(), tmp_path)
    with pytest.raises(ContractError, match=message):
        train(table(), config(**changes), tmp_path, resume=True)


def test_resuming_with_other_data_is_refused(tmp_path: Path) -> None:
    train(table(), config(), tmp_path)
    with pytest.raises(ContractError, match=r"data\.labels was \d+, is \d+"):
        train(table(seed=1), config(), tmp_path, resume=True)


def test_a_state_that_could_not_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    save_state({"step": 1}, tmp_path)
    with pytest.raises(Exception, match="pickle"):
        save_state({"step": lambda: None}, tmp_path)
    assert load_state(tmp_path) == {"step": 1}
    assert (tmp_path / STATE_FILE).exists()
