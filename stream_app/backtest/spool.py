"""Ids, users and features of the scored events on disk: only those with changed decisions are read again."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import IO

import msgspec
import numpy as np
from numpy.typing import NDArray

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[str], list[str]]).decode


class Spool:
    """Rows in the order of their addition; `close` deletes the files."""

    def __init__(self) -> None:
        self._names = tempfile.TemporaryFile()  # noqa: SIM115 (see `close`)
        self._dense: dict[str, IO[bytes]] = {}
        self._first: list[int] = [0]  # row of each batch
        self._offset: list[int] = [0]  # of each batch in the file of names
        self._width: dict[str, int] = {}

    def close(self) -> None:
        """Delete the files."""
        for file in (self._names, *self._dense.values()):
            file.close()

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._first[-1]

    def add(self, events: Sequence[str], users: Sequence[str], dense: Mapping[str, NDArray[np.float32]]) -> None:
        """Add B rows: ids, users, features (B, F) by the name of their catalogue, the same names each time."""
        block = _encode((events, users))
        self._names.seek(self._offset[-1])
        self._names.write(block)
        for name, part in dense.items():
            if name not in self._dense:
                self._dense[name] = tempfile.TemporaryFile()  # noqa: SIM115 (see `close`)
                self._width[name] = part.shape[1]
            self._dense[name].seek(0, 2)
            self._dense[name].write(np.ascontiguousarray(part).tobytes())
        self._first.append(self._first[-1] + len(events))
        self._offset.append(self._offset[-1] + len(block))

    def names(self, rows: NDArray[np.int64]) -> tuple[list[str], list[str]]:
        """Return ids and users of ascending rows (R,)."""
        events: list[str] = []
        users: list[str] = []
        batches = np.searchsorted(self._first, rows, side="right") - 1
        for batch in np.unique(batches).tolist():
            self._names.seek(self._offset[batch])
            of_batch = _decode(self._names.read(self._offset[batch + 1] - self._offset[batch]))
            for row in (rows[batches == batch] - self._first[batch]).tolist():
                events.append(of_batch[0][row])
                users.append(of_batch[1][row])
        return events, users

    def features(self, catalogue: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return features (R, F) of rows (R,)."""
        file, width = self._dense[catalogue], self._width[catalogue]
        features = np.empty((len(rows), width), np.float32)
        for place, row in enumerate(rows.tolist()):
            file.seek(row * 4 * width)
            features[place] = np.frombuffer(file.read(4 * width), np.float32)
        return features
