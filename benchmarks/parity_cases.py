"""What the comparison of ONNX with torch runs on: for each preset its configuration, a training set, and rows to compare on.

Rows of a shop's events are those of a replay (`CanonicalReplay` over the log, or over a simulated shop's log), spread over all of
it. Rows of tables, texts and sequences are those of the real data set, through its own reader. Where the real data is absent, a
simulated shop and rows that are made up stand in, and `rows_of` says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.features.feature_logs import write_jsonl
from model.contract import INPUTS
from model.examples import example_inputs
from model.inputs import EventInputs, Inputs, SequenceInputs, TableInputs, TextInputs
from model.tasks import Task
from stream_app.config import ModelSettings, Settings
from stream_app.logs.ingest.mapping import load_mapping
from stream_app.logs.log_source import LogSource, chunks_of, open_log
from stream_app.replay.canonical import CanonicalReplay
from stream_app.simulator.shop import simulated_events
from training.config import NetworkOptions, TrainingConfig, load_config
from training.data.dataset import LEFT_OUT, SPLITS, Arrays, Dataset
from training.data.simulated_shops import shops_from
from training.data.sources.simulated import joined
from training.jobs import TrainingJob, build_dataset

_BATCH: Final = 4_096
_MADE_ROWS: Final = 20_000
_SMALL_SHOP: Final = "tiny"  # its shop stands for those of the other simulations, which take minutes, and for real logs

_YES: Final = Task(name="yes", kind="binary", label="yes")
_SIDE: Final = Task(name="side", kind="classes", label="side", classes=tuple("abcdefghij"))
_NEXT: Final = Task(name="next", kind="retrieval", label="next")
_MADE: Final[dict[str, tuple[Inputs, tuple[Task, ...]]]] = {  # as large as the real ones
    "table": (TableInputs(7, (9, 52, 47, 17, 24)), (_YES, _SIDE)),
    "text": (TextInputs(vocabulary=4_000, length=24, grams=256), (_YES, _SIDE)),
    "sequences": (SequenceInputs(items=12_101, length=30), (_NEXT,)),
}


@dataclass(frozen=True)
class ParityCase:
    """One preset.

    Attributes:
        config: the configuration of `training/configs`.
        data: of the real data set, below the folder of all of them; "" = a simulated shop.
        preset: of the network, in place of the configuration's network; "" = that one.
        mapping: where the configuration names none.
    """

    config: str
    data: str = ""
    preset: str = ""
    mapping: str = ""

    def training_config(self) -> TrainingConfig:
        """Return the configuration."""
        found = load_config(self.config, {"source.mapping": self.mapping} if self.mapping else None)
        return replace(found, network=NetworkOptions(preset=self.preset)) if self.preset else found


_TAOBAO: Final = "clickstream/taobao_user_behavior.csv.gz"
CASES: Final[Mapping[str, ParityCase]] = {
    "banking77": ParityCase("banking77", "intent"),
    "beauty": ParityCase("beauty", "sequences/beauty.txt.gz"),
    "cards": ParityCase("cards", "fraud/card_transactions_apr_aug_2018.parquet"),
    "census": ParityCase("census", "census/census_income_test.csv.gz"),
    "clinc150": ParityCase("clinc150", "intent/clinc150_full.json.gz"),
    "demo": ParityCase("demo"),
    "diginetica": ParityCase("diginetica", "sessions"),
    "ecommerce": ParityCase("ecommerce", "fraud/ecommerce_signup_purchase.csv.gz"),
    "fdu-mtl": ParityCase("fdu-mtl", "reviews/fdu_mtl"),
    "log": ParityCase("log", _TAOBAO, mapping="taobao"),
    "reviews-zh": ParityCase("reviews-zh", "reviews/online_shopping_10_cats.csv.gz"),
    "sports": ParityCase("sports", "sequences/sports_and_outdoors.txt.gz"),
    "taobao": ParityCase("taobao", _TAOBAO),
    "taobao-category": ParityCase("taobao-category", _TAOBAO),
    "tiny": ParityCase("tiny"),
    "uci": ParityCase("uci", "sessions/uci_online_shoppers_intention.csv.gz"),
    # Networks that no configuration names: the same graphs, smaller, which tests use.
    "table_tiny": ParityCase("census", "census/census_income_test.csv.gz", "table_tiny"),
    "text_tiny": ParityCase("banking77", "intent", "text_tiny"),
    "sequence_tiny": ParityCase("beauty", "sequences/beauty.txt.gz", "sequence_tiny"),
}


@dataclass(frozen=True)
class ParityInputs:
    """What one comparison runs on.

    Attributes:
        config: the case's, fitting `dataset`.
        dataset: to train on.
        rows: to compare on, (R, ...) by tensor.
        rows_of: what they are, for a person.
    """

    config: TrainingConfig
    dataset: Dataset
    rows: Arrays
    rows_of: str


def material_of(case: ParityCase, data: Path, count: int, say: Callable[[str], None]) -> ParityInputs:
    """Read, or make, what a case runs on; `count` rows to compare on, spread evenly, or all where there are fewer."""
    config, path = case.training_config(), data / case.data
    is_made = bool(case.data) and not path.exists()
    is_events = config.source["kind"] in {"log", "simulation"} and config.source.get("rows") != "sequence"
    if is_events and (is_made or not case.data):
        return _of_shop(replace(config, source=load_config(_SMALL_SHOP).source), count, say, is_made=is_made)
    if is_made:
        return _made(config, count)
    dataset = build_dataset(TrainingJob(config=config, folder=Path(), data=(path,)), say)
    if not isinstance(dataset.spec, EventInputs):
        return ParityInputs(config, dataset, _spread(dataset.inputs, count), f"{case.data} through its reader")
    say(f"replaying {case.data}")
    rows = rows_of_replay(open_log([path], load_mapping(config.source["mapping"])), count)
    return ParityInputs(config, dataset, rows, f"replay of {case.data}")


def few(dataset: Dataset, rows: int) -> Dataset:
    """Leave out all rows of each split but `rows` of them, spread evenly."""
    split = np.full(len(dataset), LEFT_OUT, np.int8)
    for name in SPLITS:
        there = dataset.rows(name)
        split[there[np.linspace(0, len(there) - 1, min(rows, len(there))).astype(np.int64)]] = SPLITS.index(name)
    return replace(dataset, split=split)


def rows_of_replay(log: LogSource, count: int) -> Arrays:
    """Replay a log and return the model's inputs, (R, ...), of `count` of its events spread evenly; of all if there are fewer.

    Late and repeated events are no rows: they are not scored.
    """
    found: list[Arrays] = []
    step, seen = 1, 0  # so many events, scored or not, stand for one that is kept
    with CanonicalReplay(Settings(model=ModelSettings(engine="none"))) as replay:
        for batch in replay.batches(chunks_of(log, _BATCH)):
            if batch.scored is None:
                continue
            folded = batch.scored.folded
            scored = np.flatnonzero(~folded.late & (folded.duplicate_of < 0))
            kept = scored[-seen % step :: step]
            seen += len(scored)
            found.append({spec.name: getattr(folded, spec.name)[kept] for spec in INPUTS})
            if sum(len(part["dense"]) for part in found) >= 4 * count:  # enough to spread over, however long the log is
                found, step = [{name: value[::2] for name, value in joined(found).items()}], 2 * step
    return _spread(joined(found), count)


def _of_shop(config: TrainingConfig, count: int, say: Callable[[str], None], *, is_made: bool) -> ParityInputs:
    say("simulating a shop")
    [shop] = shops_from(config.source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.jsonl"
        write_jsonl(path, (simulated.event for simulated in simulated_events(shop.options)))
        rows = rows_of_replay(open_log([path]), count)
    instead = ", since the real data is absent" if is_made else ""
    dataset = build_dataset(TrainingJob(config=config, folder=Path()), say)
    return ParityInputs(config, dataset, rows, f"replay of a simulated shop{instead}")


def _made(config: TrainingConfig, count: int) -> ParityInputs:
    kind = "sequences" if config.source.get("rows") == "sequence" else config.source["kind"]
    spec, tasks = _MADE[kind]
    inputs = {name: tensor.numpy() for name, tensor in example_inputs(spec, _MADE_ROWS).items()}
    draw = np.random.default_rng(1)
    sizes = {"yes": 2, "side": len(_SIDE.classes), "next": spec.items if isinstance(spec, SequenceInputs) else 0}
    dataset = Dataset(
        inputs=inputs,
        labels={task.label: draw.integers(0, sizes[task.name], _MADE_ROWS).astype(np.int32) for task in tasks},
        split=(np.arange(_MADE_ROWS) % len(SPLITS)).astype(np.int8),
        segment=np.zeros(_MADE_ROWS, np.int8),
        time_ms=np.zeros(_MADE_ROWS, np.int64),
        key=np.arange(_MADE_ROWS, dtype=np.int64),
        tasks=tasks,
        spec=spec,
    )
    plain = replace(config, tasks={}, training=replace(config.training, tasks=()))
    return ParityInputs(plain, dataset, _spread(inputs, count), "rows made up, since the real data is absent")


def _spread(rows: Mapping[str, NDArray[Any]], count: int) -> Arrays:
    total = len(next(iter(rows.values())))
    picked = np.linspace(0, total - 1, min(count, total)).astype(np.int64)
    return {name: value[picked] for name, value in rows.items()}
