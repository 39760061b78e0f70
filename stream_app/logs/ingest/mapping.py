"""Read a mapping: the TOML file that turns rows of a file into events. It is checked as a whole before a row is read.

`docs/imports.md` describes the format. This module turns the text into typed values; `rules.py` turns these into functions of a
row.
"""

from __future__ import annotations

import codecs
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from stream_app.errors import ConfigError
from stream_app.logs.ingest.fields import field_problems, used_columns
from stream_app.logs.ingest.rules import text_of

_TOP_KEYS: Final = {"name", "description", "unmatched", "source", "record"}
_SOURCE_KEYS: Final = {"format", "header", "columns", "delimiter", "quote", "encoding"}
_CSV_KEYS: Final = _SOURCE_KEYS - {"format"}
_FORMATS: Final = ("csv", "jsonl", "parquet")
_RECORD_KEYS: Final = {"topic", "where", "fields"}


@dataclass(frozen=True, slots=True)
class SourceFormat:
    """The format of the file; all fields but `format` apply to CSV.

    `columns` names the columns of a file without header. With an empty `format` the file's name and first bytes decide.
    """

    format: Literal["", "csv", "jsonl", "parquet"] = ""
    header: bool = True
    columns: tuple[str, ...] = ()
    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class RecordMapping:
    """One event (or label) of a row: its topic, a filter (column -> allowed texts), and a rule for each field."""

    topic: str
    where: dict[str, frozenset[str]]
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LogMapping:
    """A checked mapping. `origin` names its source; `text` is its text, which identifies it when an import resumes."""

    name: str
    description: str
    skip_unmatched: bool
    source: SourceFormat
    records: tuple[RecordMapping, ...]
    origin: str
    text: str

    def columns(self) -> list[str]:
        """Return the columns that the mapping reads, each once."""
        columns: dict[str, None] = {}
        for record in self.records:
            columns |= dict.fromkeys([*record.where, *used_columns(record.fields)])
        return list(columns)


def packaged_mappings() -> list[str]:
    """Return the names of the mappings that Millrace ships."""
    folder = resources.files("stream_app.logs.ingest") / "mappings"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_mapping(name_or_file: str) -> LogMapping:
    """Read and check a mapping: a packaged one by name, or a file.

    Raises:
        ConfigError: The mapping does not exist or is wrong; the message lists every problem.
    """
    origin, text = _read(name_or_file)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"the mapping {origin} is no valid TOML: {err}") from err
    problems = _problems(raw)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigError(f"the mapping {origin} is wrong:\n{listed}\nThe format is described in docs/imports.md")
    return _mapping_from(raw, origin, text)


def _read(name_or_file: str) -> tuple[str, str]:
    packaged = packaged_mappings()
    if name_or_file in packaged:
        return name_or_file, (resources.files("stream_app.logs.ingest") / "mappings" / f"{name_or_file}.toml").read_text()
    path = Path(name_or_file)
    try:
        return str(path), path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(
            f"no mapping {name_or_file!r}: it is neither a packaged one ({', '.join(packaged)}) nor a file that can be "
            f"read ({err})"
        ) from err


def _problems(raw: dict[str, Any]) -> list[str]:
    problems = _unknown(raw, _TOP_KEYS, "the top level")
    if not isinstance(raw.get("name"), str):
        problems.append("`name` is missing: a short text that names the mapping")
    if raw.get("unmatched", "refuse") not in ("refuse", "skip"):
        problems.append(f'`unmatched` is {raw["unmatched"]!r}; it is "refuse" (the default) or "skip"')
    source = raw.get("source", {})
    problems += _source_problems(source) if isinstance(source, dict) else ["`source` is no table"]
    records = raw.get("record")
    if not isinstance(records, list) or not records:
        return [*problems, "there is no [[record]]: each says what event a row becomes"]
    for number, record in enumerate(records, 1):
        problems += [f"record {number}: {problem}" for problem in _record_problems(record)]
    return problems


def _unknown(table: dict[str, Any], known: set[str], place: str) -> list[str]:
    return [f"{place} has an unknown key `{key}`; known are {', '.join(sorted(known))}" for key in table if key not in known]


def _source_problems(source: dict[str, Any]) -> list[str]:
    problems = _unknown(source, _SOURCE_KEYS, "[source]")
    form = source.get("format", "")
    if form not in ("", *_FORMATS):
        problems.append(f"[source] format is {form!r}; it is one of {', '.join(_FORMATS)}")
    if form == "jsonl":
        problems += [f'[source] has {key}, which is for CSV, and format = "jsonl"' for key in source if key in _CSV_KEYS]
    if not isinstance(source.get("header", True), bool):
        problems.append("[source] header is true or false")
    columns = source.get("columns", [])
    if not isinstance(columns, list) or not all(isinstance(column, str) for column in columns):
        problems.append("[source] columns is a list of texts")
    elif len(set(columns)) != len(columns):
        problems.append("[source] columns names one column twice")
    elif source.get("header", True) is False and not columns:
        problems.append("[source] has header = false, so it needs columns = [...] in the order of the file")
    if not isinstance(source.get("delimiter", ","), str) or len(source.get("delimiter", ",")) != 1:
        problems.append(f'[source] delimiter is {source["delimiter"]!r}; it is one character, as "," or "\\t"')
    if not isinstance(source.get("quote", '"'), str) or len(source.get("quote", '"')) > 1:
        problems.append(f"[source] quote is {source['quote']!r}; it is one character, or empty for files without quoting")
    try:
        codecs.lookup(str(source.get("encoding", "utf-8")))
    except LookupError:
        problems.append(f"[source] encoding {source['encoding']!r} is not known; examples are utf-8, gb18030, latin-1")
    return problems


def _record_problems(record: object) -> list[str]:
    if not isinstance(record, dict):
        return ["it is no table"]
    problems = _unknown(record, _RECORD_KEYS, "it")
    where = record.get("where", {})
    if not isinstance(where, dict) or not all(isinstance(values, list) and values for values in where.values()):
        problems.append(
            'where is a table of column = ["value", ...]; a column with dots stands in quotes: "item.kind" = ["value"]'
        )
    fields = record.get("fields")
    if not isinstance(fields, dict):
        return [*problems, "it has no [record.fields]"]
    return problems + field_problems(record.get("topic"), fields)


def _mapping_from(raw: dict[str, Any], origin: str, text: str) -> LogMapping:
    source = dict(raw.get("source", {}))
    source["columns"] = tuple(source.get("columns", ()))
    return LogMapping(
        name=raw["name"],
        description=str(raw.get("description", "")),
        skip_unmatched=raw.get("unmatched") == "skip",
        source=SourceFormat(**source),
        records=tuple(
            RecordMapping(
                record["topic"],
                {column: frozenset(text_of(value) for value in values) for column, values in record.get("where", {}).items()},
                record["fields"],
            )
            for record in raw["record"]
        ),
        origin=origin,
        text=text,
    )
