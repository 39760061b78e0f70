"""Errors of unreadable record batches, with their place.

A damaged batch, or one of an unknown codec, raises the error of the library that decodes it, without a place. It becomes an
`UnreadableBatchError`, which ends the worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.consumer import fetcher

from stream_app.errors import UnreadableBatchError

if TYPE_CHECKING:
    from collections.abc import Iterator


class PlacedRecords(fetcher.PartitionRecords):  # type: ignore[misc,unused-ignore]
    """aiokafka's records of one partition in a fetch response; an error names topic, partition and offset."""

    def _unpack_records(self) -> Iterator[Any]:
        try:
            yield from super()._unpack_records()
        except Exception as error:
            partition = f"{self._tp.topic}-{self._tp.partition}"
            raise UnreadableBatchError(partition, self.next_fetch_offset, f"{type(error).__name__}: {error}") from error


def name_unreadable_batches() -> None:
    """Make aiokafka's fetcher read all batches of this process through `PlacedRecords`."""
    fetcher.PartitionRecords = PlacedRecords  # type: ignore[misc,unused-ignore]
