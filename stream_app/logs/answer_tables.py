"""Convert answers to tables of one flat row per message, and back to the bytes of the messages.

The fields of a struct become columns (`source_topic`, `source_partition`, `source_offset`), probabilities one column per intent
(`probability_buy`), lists of structs Parquet lists of structs. Numbers keep every bit, bytes are binary (not base64), and a late
event's original is its JSON text, so the conversion back gives the same bytes.
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
    """Return the schema of a topic's table.

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
    """Return the table of messages.

    Args:
        topic: Topic of the messages.
        values: JSON of the messages.
    """
    pa, schema = arrow(), table_schema(topic)
    decode = msgspec.json.Decoder(TABLE_TYPES[topic]).decode
    messages = list(map(decode, values))
    columns: list[list[Any]] = []
    for name, hint in _hints(topic).items():
        fields = [getattr(message, name) for message in messages]
        if hint is Source:
            columns += [[getattr(source, part) for source in fields] for part in _SOURCE]
        elif hint == _PROBABILITIES:
            columns += [[probabilities[intent] for probabilities in fields] for intent in INTENTS]
        elif hint == _HEADERS:
            columns.append([[{"name": header, "value": value} for header, value in headers] for headers in fields])
        elif hint is msgspec.Raw:
            columns.append([bytes(raw).decode() for raw in fields])
        else:
            columns.append(msgspec.to_builtins(fields, builtin_types=(bytes,)))
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def answers_of(topic: str, folder: Path) -> Iterator[bytes]:
    """Yield the messages of a topic's table, byte for byte.

    Raises:
        InputFileError: A part is damaged, or belongs to another table.
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
            rows = zip(*(columns[_probability(intent)] for intent in INTENTS), strict=True)
            fields[name] = [dict(zip(INTENTS, row, strict=True)) for row in rows]
        elif hint == _HEADERS:
            fields[name] = [[(header["name"], header["value"]) for header in headers] for headers in columns[name]]
        elif hint is msgspec.Raw:
            fields[name] = [msgspec.Raw(text.encode()) for text in columns[name]]
        else:
            fields[name] = columns[name]  # lists of structs arrive as dicts with the same fields in the same order
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
    """Return the Arrow type of a column whose values have the type `hint` (of typing.get_type_hints)."""
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
    [inner] = [part for part in get_args(hint) if part is not type(None)]  # bytes or None
    return arrow_type(pa, inner)
