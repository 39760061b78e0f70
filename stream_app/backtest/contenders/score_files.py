"""Scores by event id from a file: Parquet, CSV (with a header) or JSON lines, with `event_id` and `score`."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_app.errors import ConfigError, InputFileError

_COLUMNS = ("event_id", "score")


class _Line(msgspec.Struct):
    event_id: str
    score: float


def id_hashes(ids: Iterable[str]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each id (N,), so that the ids of a long log fit in memory; two collide once in 2**64 pairs."""
    digests = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in ids)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


class ScoreFile:
    """Scores (M,), looked up by the hashes (M,) of the events' ids."""

    def __init__(self, event: NDArray[np.uint64], score: NDArray[np.float32]) -> None:
        order = np.argsort(event, kind="stable")
        self._event, self._score = event[order], score[order]

    @classmethod
    def read(cls, path: Path) -> ScoreFile:
        """Read a file.

        Raises:
            InputFileError: It cannot be read, has no such columns, or an event has two scores.
            ConfigError: Parquet without pyarrow.
        """
        try:
            with path.open("rb") as file:
                magic = file.read(4)
            ids, scores = _parquet(path) if magic == b"PAR1" else _lines(path) if magic[:1] == b"{" else _csv(path)
            file_scores = cls(id_hashes(ids), np.asarray(scores, np.float32))
        except (OSError, ValueError, KeyError, msgspec.DecodeError) as err:
            raise InputFileError(
                f"cannot read scores from {path}: {err}. It is Parquet, CSV with a header, or JSON lines, with "
                f"{' and '.join(_COLUMNS)}"
            ) from err
        repeated = int((np.diff(file_scores._event) == 0).sum())
        if repeated or not len(file_scores):
            defect = f"gives {repeated:,} events a second score" if repeated else "has no score"
            raise InputFileError(f"{path} {defect}; an event has one")
        return file_scores

    def __len__(self) -> int:
        """Return how many events have a score."""
        return len(self._event)

    @property
    def are_probabilities(self) -> bool:
        """Whether every score is in [0, 1]."""
        return bool(((self._score >= 0) & (self._score <= 1)).all())

    def of(self, event: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Return the scores (B,) of events by their hashes (B,); NaN where there is none."""
        place = np.minimum(np.searchsorted(self._event, event), len(self._event) - 1)
        return np.where(self._event[place] == event, self._score[place], np.float32(np.nan)).astype(np.float32)


def _parquet(path: Path) -> tuple[list[str], Any]:
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(f"{path} is Parquet, which needs pyarrow: pip install 'millrace[backtest]'")
    from pyarrow import parquet

    table = parquet.read_table(path, columns=list(_COLUMNS))
    return table["event_id"].cast("string").to_pylist(), table["score"].to_numpy()


def _csv(path: Path) -> tuple[list[str], list[float]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [(row["event_id"], float(row["score"])) for row in csv.DictReader(file)]
    return [event for event, _ in rows], [score for _, score in rows]


def _lines(path: Path) -> tuple[list[str], list[float]]:
    decode = msgspec.json.Decoder(_Line).decode
    with path.open("rb") as file:
        lines = [decode(line) for line in file if not line.isspace()]
    return [line.event_id for line in lines], [line.score for line in lines]
