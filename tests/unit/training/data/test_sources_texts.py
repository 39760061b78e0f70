"""Texts: n-grams against a plain count, labels and scenes as declared, nothing learnt from validation or test rows."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.inputs import TextInputs
from stream_app.errors import ConfigError, InputFileError
from training.config import load_config
from training.data.dataset import UNKNOWN, Dataset
from training.data.parsing.columns import ColumnReading, read_columns
from training.data.parsing.grams import GramPlan, bags, learn_grams, words_of
from training.data.sources.texts import dataset_from_texts

SHARED = Path(__file__).parents[5] / "shared" / "data"
NOBODY = np.zeros(0, np.int64)


def counted_grams(text: str, plan: GramPlan) -> tuple[Counter[tuple[str, ...]], Counter[str]]:
    """The n-grams of a text, counted the slow way."""
    words = words_of(text)
    of_words = Counter(tuple(words[at : at + n]) for n in range(1, plan.words + 1) for at in range(len(words) - n + 1))
    shortest, longest = plan.characters
    padded = [f" {word} " for word in words]
    return of_words, Counter(w[at : at + n] for w in padded for n in range(shortest, longest + 1) for at in range(len(w) - n + 1))


def section(**more: Any) -> dict[str, Any]:
    return {
        "kind": "text",
        "tokens": {"vocabulary": 200, "length": 8},
        "grams": {"limit": 24, "least": 1},
        "labels": [{"name": "mood", "column": "label", "positive": ["1"]}],
        **more,
    }


def lines(count: int, words: str = "good bad fine poor") -> str:
    vocabulary = words.split()
    return "".join(f"{n % 2}\t{vocabulary[n % 4]} thing {n}\n" for n in range(count))


@pytest.mark.parametrize("characters", [(0, 0), (2, 4), (1, 1)])
@pytest.mark.parametrize("words", [0, 1, 3])
def test_as_many_ngrams_are_kept_as_a_plain_count_finds(words: int, characters: tuple[int, int]) -> None:
    texts = ["the card, the card!", "don't lose the card", "", "这本书 很好 abc"]
    plan = GramPlan(words=words, characters=characters, least=1, limit=400)
    grams = learn_grams(plan, texts, NOBODY)
    expected = [counted_grams(text, plan) for text in texts]
    of_words = [counts[0] for counts in expected] if words else []
    of_characters = [counts[1] for counts in expected] if characters[1] else []
    distinct = len({gram for row in of_words for gram in row}) + len({gram for row in of_characters for gram in row})
    assert len(grams.hashes) == distinct
    buckets, _ = bags(grams, texts)
    counts = np.zeros(len(texts), np.int64)
    for part in (of_words, of_characters):
        counts += [len(row) for row in part] if part else 0
    assert (buckets > 0).sum(axis=1).tolist() == counts.tolist()


def test_values_are_tf_idf_of_length_one() -> None:
    texts = ["a a b", "a c", "a d d d"]
    grams = learn_grams(GramPlan(words=1, characters=(0, 0), least=1, limit=8), texts, NOBODY)
    _, values = bags(grams, ["a a b"])
    often, rare = 1.0 + math.log(4 / 4), 1.0 + math.log(4 / 2)
    expected = np.sort(np.array([(1 + math.log(2)) * often, rare]))[::-1]
    assert values[0, :2] == pytest.approx(expected / np.linalg.norm(expected), rel=1e-6)
    assert not values[0, 2:].any()


def test_a_telling_ngram_is_worth_more_than_a_common_one() -> None:
    texts = ["good film", "good book", "bad film", "bad book"] * 5
    labels = np.array([1, 1, 0, 0] * 5)
    grams = learn_grams(GramPlan(words=1, characters=(0, 0), values="telling"), texts, labels)
    _, values = bags(grams, ["film good"])
    assert values[0, 0] > 5 * values[0, 1] > 0


def test_ngrams_outside_of_the_train_rows_are_ignored() -> None:
    grams = learn_grams(GramPlan(words=1, characters=(0, 0), least=2), ["a b", "a c"], NOBODY)
    buckets, values = bags(grams, ["c b x", "x a"])
    assert not buckets[0].any()
    assert not values[0].any()
    assert (buckets[1] > 0).sum() == 1


def test_the_most_valued_are_kept_where_a_text_has_too_many() -> None:
    texts = ["a b c d", "a b c", "a b", "a"]
    everything = bags(learn_grams(GramPlan(words=1, characters=(0, 0), least=1, limit=9), texts, NOBODY), texts)
    few = bags(learn_grams(GramPlan(words=1, characters=(0, 0), least=1, limit=2), texts, NOBODY), texts)
    assert (few[0] == everything[0][:, :2]).all()
    assert (few[1] == everything[1][:, :2]).all()
    assert (np.diff(everything[1], axis=1) <= 0).all()


def test_the_numbering_is_bounded_by_the_commonest() -> None:
    texts = ["a b", "a c", "a b d"]
    grams = learn_grams(GramPlan(words=1, characters=(0, 0), least=1, buckets=2), texts, NOBODY)
    buckets, _ = bags(grams, ["a", "b", "c", "d"])
    assert (buckets[:, 0] > 0).tolist() == [True, True, False, False]


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    texts = ["where is my card", "my card is lost", "is it lost"]
    grams = learn_grams(GramPlan(least=1, limit=64), texts, NOBODY)
    together = bags(grams, texts)
    for row, text in enumerate(texts):
        alone = bags(grams, [text])
        assert (alone[0][0] == together[0][row]).all()
        assert (alone[1][0] == together[1][row]).all()


@pytest.fixture
def domains(tmp_path: Path) -> Path:
    for domain, words in (("books", "good bad fine poor"), ("toys", "fun dull nice broken")):
        (tmp_path / f"{domain}.task.train.tsv").write_text(lines(40, words))
        with gzip.open(tmp_path / f"{domain}.task.test.tsv.gz", "wt") as file:
            file.write(lines(8, words))
    return tmp_path


def domain_section(**more: Any) -> dict[str, Any]:
    return section(
        train="*.task.train.tsv*",
        test="*.task.test.tsv*",
        scene="file",
        reading={"header": False, "columns": ["label", "text"], "quote": ""},
        split={"kind": "given", "validation": 0.2},
        **more,
    )


def test_domains_are_scenes_and_given_files_stay_apart(domains: Path) -> None:
    dataset = dataset_from_texts(domains, domain_section())
    assert dataset.segments == ("books", "toys")
    assert np.bincount(dataset.split).tolist() == [64, 16, 16]
    assert (dataset.inputs["scene"] == dataset.segment + 1).all()
    assert isinstance(dataset.spec, TextInputs)
    assert dataset.spec.scenes == 3
    for spec in dataset.spec.tensors():
        assert dataset.inputs[spec.name].shape == (96, *spec.shape)
        assert dataset.inputs[spec.name].dtype == spec.dtype
    assert dataset.inputs["grams"].max() < dataset.spec.gram_buckets
    assert dataset.inputs["tokens"].max() < dataset.spec.vocabulary


def test_validation_rows_have_each_label_of_each_scene_in_its_share(domains: Path) -> None:
    dataset = dataset_from_texts(domains, domain_section())
    rows = dataset.rows("validation")
    pairs = Counter(zip(dataset.segment[rows].tolist(), dataset.labels["mood"][rows].tolist(), strict=True))
    assert set(pairs.values()) == {4}


def test_a_label_by_scene_is_one_task_for_each(domains: Path) -> None:
    labels = [{"name": "mood", "column": "label", "positive": ["1"], "by_scene": True}]
    dataset = dataset_from_texts(domains, domain_section(labels=labels))
    assert [task.name for task in dataset.tasks] == ["books", "toys"]
    together = dataset_from_texts(domains, domain_section())
    for code, name in enumerate(dataset.segments):
        own = dataset.segment == code
        assert (dataset.labels[name][~own] == UNKNOWN).all()
        assert (dataset.labels[name][own] == together.labels["mood"][own]).all()
    assert (dataset.inputs["gram_values"] == together.inputs["gram_values"]).all()


def test_nothing_is_learnt_from_test_texts(domains: Path) -> None:
    before = dataset_from_texts(domains, domain_section())
    with gzip.open(domains / "toys.task.test.tsv.gz", "wt") as file:
        file.write(lines(8, "wholly other words here"))
    after = dataset_from_texts(domains, domain_section())
    train = before.rows("train")
    assert all((before.fitted[name] == after.fitted[name]).all() for name in ("tokenizer", "gram_hashes", "gram_values"))
    assert all((before.inputs[name][train] == after.inputs[name][train]).all() for name in before.inputs)


def test_of_one_scene_only_its_own_rows_are_read(domains: Path) -> None:
    alone = dataset_from_texts(domains, domain_section(only="toys"))
    assert alone.segments == ("toys",)
    assert np.bincount(alone.split).tolist() == [32, 8, 8]
    assert len(alone.fitted["gram_hashes"]) < len(dataset_from_texts(domains, domain_section()).fitted["gram_hashes"])
    with pytest.raises(ConfigError, match=r"only is 'cars', which is no scene; there are books, toys"):
        dataset_from_texts(domains, domain_section(only="cars"))


def test_the_same_files_give_the_same_bytes(domains: Path) -> None:
    def all_of(dataset: Dataset) -> list[bytes]:
        return [value.tobytes() for value in (*dataset.inputs.values(), *dataset.labels.values(), dataset.split)]

    assert all_of(dataset_from_texts(domains, domain_section())) == all_of(dataset_from_texts(domains, domain_section()))


def test_a_line_separator_within_a_json_text_ends_no_line(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"a\u2028b{n}"}, ensure_ascii=False) for n in range(3)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_columns(tmp_path / "x.jsonl", ColumnReading())["text"] == [f"a\u2028b{n}" for n in range(3)]


def test_json_of_parts_is_split_by_part(tmp_path: Path) -> None:
    parts = {
        "train": [[f"book a flight {n}", "travel"] for n in range(9)] + [[f"pay bill {n}", "money"] for n in range(9)],
        "oos_train": [["sing a song", "oos"], ["tell me a joke", "oos"]],
        "val": [["book flight", "travel"], ["pay it", "money"]],
        "oos_val": [["what", "oos"]],
        "test": [["flight", "travel"], ["bill", "money"]],
        "oos_test": [["who", "oos"]],
    }
    file = tmp_path / "clinc.json.gz"
    file.write_bytes(gzip.compress(json.dumps(parts, indent=2).encode()))
    split: dict[str, Any] = {
        "kind": "given",
        "column": "part",
        "values": [["train", "oos_train"], ["val", "oos_val"], ["test", "oos_test"]],
    }
    dataset = dataset_from_texts(file, section(labels=[{"name": "i", "column": "label", "kind": "classes"}], split=split))
    assert dataset.tasks[0].classes == ("money", "oos", "travel")
    assert np.bincount(dataset.split).tolist() == [20, 3, 3]
    split["values"] = [["train", "oos_train"], ["oos_val"], ["test", "oos_test"]]
    with pytest.raises(InputFileError, match=r"line 21, column 'part'.*'val' is none of.*Add it to values"):
        dataset_from_texts(file, section(labels=[{"name": "i", "column": "label", "kind": "classes"}], split=split))


def test_equal_texts_are_kept_once_where_asked(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("text,label\n" + "".join(f"text {n % 20},{n % 20 % 2}\n" for n in range(60)))
    assert len(dataset_from_texts(file, section(unique=["text"]))) == 20
    assert len(dataset_from_texts(file, section())) == 60


def test_a_pattern_without_a_file_names_folder_and_pattern(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"has no file '\*\.task\.train\.tsv\*'.*give the folder"):
        dataset_from_texts(tmp_path, domain_section())


def test_an_unknown_key_is_named_with_those_there_are(domains: Path) -> None:
    with pytest.raises(ConfigError, match=r"colour.*keys kind, labels.*grams"):
        dataset_from_texts(domains, domain_section(colour="red"))


def test_a_cut_gzip_says_so(domains: Path) -> None:
    whole = (domains / "toys.task.test.tsv.gz").read_bytes()
    (domains / "toys.task.test.tsv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputFileError, match=r"toys\.task\.test\.tsv\.gz.*ends too early.*Get the whole file"):
        dataset_from_texts(domains, domain_section())


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data of ../shared/data is not here")
def test_clinc150_is_read_as_published() -> None:
    dataset = dataset_from_texts(SHARED / "intent" / "clinc150_full.json.gz", load_config("clinc150").source)
    assert np.bincount(dataset.split).tolist() == [15_100, 3_100, 5_500]
    assert len(dataset.tasks[0].classes) == 151
