"""Texts and their labels: tokens for a transformer and n-grams for a linear layer, as the configuration declares them.

    reviews of 16 shops      train = "*.task.train.tsv.gz", test = "*.task.test.tsv.gz", scene = "file"
    one file with parts      split = { kind = "given", column = "part", values = [["train"], ["val"], ["test"]] }

Tokenizer and n-grams are learnt on train rows alone and stored in `Dataset.fitted` ("tokenizer", "gram_hashes", "gram_values"),
so serving can repeat them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.inputs import TextInputs
from training.data.dataset import Dataset
from training.data.parsing.grams import GramPlan, bags, learn_grams
from training.data.parsing.labelled_rows import LabelledRows, SourcePlan, plan_from_section, rows_from_files

_TRAIN: Final = 0


class TokenPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens of a text.

    Attributes:
        vocabulary: maximum number of tokens to learn.
        length: number of tokens of a text, L; longer texts are cut.
        path: Hugging Face model of the tokenizer and the weights; "" = learn from the train texts.
    """

    vocabulary: int = 8_000
    length: int = 32
    path: str = ""


class TextPlan(SourcePlan, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A [source] section of kind "text".

    Attributes:
        text: the column of the texts.
        tokens: inputs of the transformer.
        grams: inputs of the linear layer.
    """

    text: str = "text"
    tokens: TokenPlan = TokenPlan()
    grams: GramPlan = GramPlan()


def dataset_from_texts(path: Path, source: Mapping[str, Any], progress: Callable[[str], None] = lambda _: None) -> Dataset:
    """Read files of texts as the configuration declares them.

    `path` is the file, or the folder of the files that `source`, a `TextPlan`, names.

    Raises:
        ConfigError: The section is wrong.
        InputFileError: A file or a cell cannot be read.
        ContractError: A part of the split is empty.
    """
    plan = plan_from_section(source, TextPlan)
    progress(f"reading {path}")
    rows = rows_from_files(path, plan)
    texts = rows.columns[plan.text]
    progress(f"{len(texts):,} texts; learning tokens and n-grams from the train rows")
    inputs, vocabulary, fitted = _tokens(plan.tokens, texts, rows)
    train = np.flatnonzero(rows.split == _TRAIN)
    grams = learn_grams(plan.grams, [texts[row] for row in train], rows.first[train].astype(np.int64))
    inputs["grams"], inputs["gram_values"] = bags(grams, texts)
    fitted |= {"gram_hashes": grams.hashes, "gram_values": grams.values}
    if plan.scene:
        inputs["scene"] = rows.scene
    spec = TextInputs(
        vocabulary=vocabulary,
        length=plan.tokens.length,
        grams=plan.grams.limit,
        scenes=len(rows.segments) + 1 if plan.scene else 0,
        path=plan.tokens.path,
        gram_buckets=len(grams.hashes) + 1,
    )
    return rows.dataset(inputs, spec, fitted)


def _tokens(
    plan: TokenPlan, texts: list[str], rows: LabelledRows
) -> tuple[dict[str, NDArray[Any]], int, dict[str, NDArray[Any]]]:
    """Return the tensor, the number of tokens, and the learnt tokenizer."""
    from training.data.tokenizer import encode, learn_tokenizer, tokenizer_from_path

    train = np.flatnonzero(rows.split == _TRAIN)
    tokenizer = tokenizer_from_path(plan.path) if plan.path else learn_tokenizer((texts[row] for row in train), plan.vocabulary)
    learnt: dict[str, NDArray[Any]] = {"tokenizer": np.array(tokenizer.to_str())}
    return {"tokens": encode(tokenizer, texts, plan.length)}, tokenizer.get_vocab_size(), learnt
