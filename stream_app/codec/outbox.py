"""The outbox's payload: all messages of one commit for one partition group, as MessagePack in an LZ4 block.

A commit's answers are published from these bytes, the first time and after a crash alike, so a repeated answer has the same
bytes. The payload holds the journal line too; the store draws its commit number, which is filled in when the line is
published.
"""

from __future__ import annotations

import lz4.block
import msgspec
from msgspec import Struct

from stream_app.events import JournalLine


class Messages(Struct, array_like=True):
    """Messages of one topic: `keys[i]` with `values[i]`."""

    keys: list[bytes | None]
    values: list[bytes]

    def add(self, key: bytes | None, value: bytes) -> None:
        """Append one message."""
        self.keys.append(key)
        self.values.append(value)


class OutboxBatch(Struct, array_like=True):
    """The messages of one commit. All go to partition `group` of their topic."""

    group: int
    topics: dict[str, Messages]
    journal: JournalLine

    def add(self, topic: str, key: bytes | None, value: bytes) -> None:
        """Append one message to a topic (its name without prefix)."""
        messages = self.topics.get(topic)
        if messages is None:
            messages = self.topics[topic] = Messages([], [])
        messages.add(key, value)

    def with_journal(self, commit: int) -> dict[str, Messages]:
        """Return all messages, including the journal line with its commit number."""
        line = msgspec.structs.replace(self.journal, commit=commit)
        return {**self.topics, "journal": Messages([str(self.group).encode()], [_json.encode(line)])}


_json = msgspec.json.Encoder()
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(OutboxBatch)


def encode_outbox(batch: OutboxBatch) -> bytes:
    """Encode a commit's messages."""
    packed: bytes = lz4.block.compress(_encoder.encode(batch))
    return packed


def decode_outbox(payload: bytes) -> OutboxBatch:
    """Decode the payload of `encode_outbox`."""
    return _decoder.decode(lz4.block.decompress(payload))


class _MessageTime(Struct):
    """The time of a message: an answer's event time, a late event's inner one, a dead letter's ingest time."""

    event_time_ms: int | None = None
    event: _MessageTime | None = None
    ingest_time_ms: int = 0

    def at_ms(self) -> int:
        if self.event_time_ms is not None:
            return self.event_time_ms
        return self.event.at_ms() if self.event is not None else self.ingest_time_ms


_message_time = msgspec.json.Decoder(_MessageTime)


def outbox_without(payload: bytes, key: bytes, before_ms: int) -> bytes | None:
    """Remove one user's messages of the time before `before_ms` from a commit's payload.

    Args:
        payload: The payload of `encode_outbox`.
        key: The messages' key: the user's id in UTF-8.
        before_ms: Messages from this event time on stay.

    Returns:
        The payload without them, b"" if only the journal line is left; None if there is no such message.
    """
    batch = decode_outbox(payload)
    rest, count = OutboxBatch(batch.group, {}, batch.journal), 0
    for topic, messages in batch.topics.items():
        for other, value in zip(messages.keys, messages.values, strict=True):
            if other == key and _message_time.decode(value).at_ms() < before_ms:
                count += 1
            else:
                rest.add(topic, other, value)
    if not count:
        return None
    return encode_outbox(rest) if rest.topics else b""
