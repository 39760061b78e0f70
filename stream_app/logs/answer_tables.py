"""Answers as tables: one flat row a message, and back to the message's bytes.

A struct's fields are columns of their own (`source_topic`, `source_partition`, `source_offset`), probabilities a column an intent
(`probability_buy`), lists of structs Parquet lists of structs. Numbers are kept to the bit, bytes as bytes (not base64), a late
event's original as its JSON text; so each row's message can be written again as it was.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import msgspec

from stream_app.errors import InputFileError
from stream_app.events import (
    INTENTS,
    DeadLetter,
    FeatureRow,
    FraudAlert,
    IntentLabel,
    LateEvent,
    RecommendationCandidates,
    Source,
)
from stream_app.logs.parquet_parts import arrow, parts_in

__all__ = ["TABLE_TYPES", "answer_table", "answers_of", "arrow_type", "table_schema"]

# topic -> the type of its messages
TABLE_TYPES: Final[dict[str, type[msgspec.Struct]]] = {
    "fraud-alerts": FraudAlert,
    "intent-labels": IntentLabel,
    "recommendation-candidates": RecommendationCandidates,
    "dead-letters": DeadLetter,
    "late-events": LateEvent,
    "features": FeatureRow,
}
_SOURCE: Final = Source.__struct_fields__
_PROBABILITIES: Final = dict[str, float]
_HEADERS: Final = list[tuple[str, bytes | None]]
_READ_ROWS: Final = 4_096

_encode: Final = msgspec.json.Encoder().encode


def table_schema(topic: str) -> Any:  # noqa: ANN401 (a pyarrow schema)
    """Return the columns of a topic's table.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    pa = arrow()
    columns: list[tuple[str, Any]] = []
    for name, hint in _hints(topic).items():
        if hint is Source:
            columns += [(f"{name}_{part}", arrow_type(pa, typing.get_type_hints(Source)[part])) for part in _SOURCE]
        elif hint == _PROBABILITIES:
            columns += [(_probability(intent), pa.float64()) for intent in INTENTS]
        else:
            columns.append((name, arrow_type(pa, hint)))
    return pa.schema(columns)


def answer_table(topic: str, values: Sequence[bytes]) -> Any:  # noqa: ANN401 (a pyarrow table)
    """Make the rows of messages.

    Args:
        topic: Theirs.
        values: Their JSON.
    """
    pa, schema = arrow(), table_schema(topic)
    decode = msgspec.json.Decoder(TABLE_TYPES[topic]).decode
    messages = list(map(decode, values))
    columns: list[list[Any]] = []
    for name, hint in _hints(topic).items():
        told = [getattr(message, name) for message in messages]
        if hint is Source:
            columns += [[getattr(source, part) for source in told] for part in _SOURCE]
        elif hint == _PROBABILITIES:
            columns += [[found[intent] for found in told] for intent in INTENTS]
        elif hint == _HEADERS:
            columns.append([[{"name": header, "value": value} for header, value in found] for found in told])
        elif hint is msgspec.Raw:
            columns.append([bytes(raw).decode() for raw in told])
        else:
            columns.append(msgspec.to_builtins(told, builtin_types=(bytes,)))
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def answers_of(topic: str, folder: Path) -> Iterator[bytes]:
    """Yield the messages of a topic's table, as they were.

    Raises:
        InputFileError: A part is damaged, or is of another table.
    """
    pa = arrow()
    from pyarrow import parquet

    for _, path in sorted(parts_in(folder)):
        try:
            with parquet.ParquetFile(path) as file:
                if file.schema_arrow != table_schema(topic):
                    raise InputFileError(f"{path} is no table of {topic}: its columns are {', '.join(file.schema_arrow.names)}")
                for batch in file.iter_batches(_READ_ROWS, use_threads=False):
                    yield from _messages(topic, batch.to_pydict())
        except (pa.ArrowException, OSError) as err:
            raise InputFileError(f"{path} is no readable Parquet file: {err}. Make the folder again") from err


def _messages(topic: str, columns: dict[str, list[Any]]) -> Iterator[bytes]:
    fields: dict[str, list[Any]] = {}
    for name, hint in _hints(topic).items():
        if hint is Source:
            fields[name] = [Source(*parts) for parts in zip(*(columns[f"{name}_{part}"] for part in _SOURCE), strict=True)]
        elif hint == _PROBABILITIES:
            told = zip(*(columns[_probability(intent)] for intent in INTENTS), strict=True)
            fields[name] = [dict(zip(INTENTS, found, strict=True)) for found in told]
        elif hint == _HEADERS:
            fields[name] = [[(header["name"], header["value"]) for header in found] for found in columns[name]]
        elif hint is msgspec.Raw:
            fields[name] = [msgspec.Raw(text.encode()) for text in columns[name]]
        else:
            fields[name] = columns[name]  # what a list of structs holds are dicts with the same fields in the same order
    kind = TABLE_TYPES[topic]
    for values in zip(*fields.values(), strict=True):
        yield _encode(kind(**dict(zip(fields, values, strict=True))))


def _hints(topic: str) -> dict[str, Any]:
    kind = TABLE_TYPES[topic]
    hints = typing.get_type_hints(kind)
    return {name: hints[name] for name in kind.__struct_fields__}


def _probability(intent: str) -> str:
    return f"probability_{intent}"


def arrow_type(pa: Any, hint: Any) -> Any:  # noqa: ANN401 (of pyarrow)
    """Return the type of a column of such values, as typing.get_type_hints tells them, or of what a list holds."""
    simple = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), bytes: pa.binary()}
    simple[msgspec.Raw] = pa.string()
    if hint in simple:
        return simple[hint]
    if hint == _HEADERS:
        return pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))
    if get_origin(hint) is Literal:
        return pa.string()
    if get_origin(hint) is list:
        return pa.list_(arrow_type(pa, get_args(hint)[0]))
    if isinstance(hint, type):  # a struct
        return pa.struct([(name, arrow_type(pa, of)) for name, of in typing.get_type_hints(hint).items()])
    [inner] = [part for part in get_args(hint) if part is not type(None)]  # bytes, or nothing
    return arrow_type(pa, inner)
