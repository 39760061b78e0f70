from __future__ import annotations

import builtins
import json
import re
from pathlib import Path
from typing import Any

import pytest

from stream_app.codec.topics import TOPICS
from stream_app.config import setting_docs
from stream_app.docgen.documents import generated_documents, settings_markdown, stale_documents, write_documents
from stream_app.docgen.examples import EXAMPLES
from stream_app.docgen.topics_page import topics_markdown
from stream_app.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parents[4]


def test_a_document_is_stale_until_it_is_written(tmp_path: Path) -> None:
    documents = {"a.md": "one\ntwo\n", "docs/b.md": "b\n"}
    assert stale_documents(tmp_path, documents) == ["a.md: is missing", "docs/b.md: is missing"]
    assert write_documents(tmp_path, documents) == ["a.md", "docs/b.md"]
    assert stale_documents(tmp_path, documents) == []
    assert write_documents(tmp_path, documents) == []


def test_a_stale_document_is_told_with_the_first_line_that_differs(tmp_path: Path) -> None:
    write_documents(tmp_path, {"a.md": "one\ntwo\n", "b.md": "one\n"})
    assert stale_documents(tmp_path, {"a.md": "one\n2\n", "b.md": "one\nmore\n"}) == [
        "a.md:2: has 'two', the code gives '2'",
        "b.md:2: has '<end>', the code gives 'more'",
    ]


def test_every_topic_has_a_schema_and_a_chapter_with_its_fields_and_a_json_example() -> None:
    documents = generated_documents(setting_docs(), 8, 1, CHECKOUT)
    page = documents["docs/topics.md"]
    examples = re.findall(r"```json\n(.*?)\n```", page, re.DOTALL)
    assert len(examples) == len(TOPICS)
    for spec, example in zip(TOPICS, examples, strict=True):
        schema = json.loads(documents[f"docs/schemas/{spec.name}.json"])
        chapter = page.split(f"### `{spec.name}`\n")[1].split("\n### ")[0]
        assert all(f"| `{name}` |" in chapter for name in schema["properties"])
        assert json.loads(example).keys() <= schema["properties"].keys()


def test_every_field_that_a_subscriber_reads_has_a_description() -> None:
    documents = generated_documents(setting_docs(), 8, 1, CHECKOUT)
    for spec in TOPICS:
        schema = json.loads(documents[f"docs/schemas/{spec.name}.json"])
        for part in (schema, *schema.get("$defs", {}).values()):
            silent = [name for name, field in part["properties"].items() if name != "type" and not field.get("description")]
            assert not silent, f"{spec.name}: no text below {silent} in stream_app/events.py"


def test_the_alert_of_the_page_names_features_of_the_catalogue() -> None:
    features = (CHECKOUT / "docs" / "features.md").read_text()
    assert all(f"`{reason.feature}`" in features for reason in EXAMPLES["fraud-alerts"].reasons)  # type: ignore[attr-defined]


def test_tables_have_the_same_number_of_cells_in_each_row() -> None:
    for page in (topics_markdown(CHECKOUT), settings_markdown(setting_docs())):
        for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
            cells = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(cells) == 1, block


def test_the_configuration_page_has_every_setting() -> None:
    page = settings_markdown(setting_docs())
    for doc in setting_docs():
        assert f"`{doc.env}`" in page
    assert "## `[kafka]`" in page


def test_without_pyyaml_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_yaml(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    with pytest.raises(ConfigError, match=r"PyYAML.*dev"):
        generated_documents(setting_docs(), 8, 1, CHECKOUT)
