"""The tokenizer: repeatable on English and Chinese texts, and readable from its JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch._dynamo  # noqa: F401  # changes the environment when it is loaded, which no test may
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from stream_app.errors import ContractError
from training.data.tokenizer import encode, learn_tokenizer, tokenizer_from_path

ENGLISH = ["where is my card", "my card is lost", "the card has not arrived", "Where IS the Café"] * 3
CHINESE = ["这本书很好", "书的质量不好", "很好的手机", "手机质量很好"] * 3


def test_texts_are_padded_at_the_end_and_cut_at_the_length() -> None:
    tokenizer = learn_tokenizer(ENGLISH, 200)
    tokens = encode(tokenizer, ["card", "where is my card where is my card", ""], 6)
    assert tokens.shape == (3, 6)
    assert tokens.dtype == np.int32
    assert (tokens[0] > 0).tolist() == [True, True, True, False, False, False]  # [CLS] card [SEP]
    assert (tokens[1] > 0).all()
    assert tokens[0, 0] == tokens[1, 0] == 2
    assert tokens[1, -1] == 3  # a cut text ends with [SEP] too
    assert tokens.max() < tokenizer.get_vocab_size() <= 200


def test_case_and_accents_do_not_matter() -> None:
    tokenizer = learn_tokenizer(ENGLISH, 200)
    tokens = encode(tokenizer, ["where is the cafe", "Where IS the CAFÉ"], 12)
    assert (tokens[0] == tokens[1]).all()


def test_each_chinese_character_is_a_token_and_both_languages_fit_one_tokenizer() -> None:
    tokenizer = learn_tokenizer(CHINESE + ENGLISH, 300)
    tokens = encode(tokenizer, ["手机很好", "my手机"], 8)
    assert (tokens[0] > 0).sum() == 4 + 2
    unknown = 1
    assert unknown not in tokens
    phone = tokens[0, 1:3]
    assert (tokens[1, 2:4] == phone).all()


def test_the_same_texts_give_the_same_tokens() -> None:
    first, second = learn_tokenizer(ENGLISH, 100), learn_tokenizer(ENGLISH, 100)
    assert first.to_str() == second.to_str()


def test_it_is_the_same_after_json() -> None:
    tokenizer = learn_tokenizer(CHINESE + ENGLISH, 300)
    again = Tokenizer.from_str(tokenizer.to_str())
    texts = [*CHINESE, *ENGLISH, "something never heard"]
    assert (encode(again, texts, 10) == encode(tokenizer, texts, 10)).all()


def test_a_folder_of_a_hugging_face_tokenizer_can_be_taken(tmp_path: Path) -> None:
    learnt = learn_tokenizer(ENGLISH, 200)
    fast: Any = PreTrainedTokenizerFast  # has no types
    fast(tokenizer_object=learnt, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(tmp_path)
    loaded = tokenizer_from_path(str(tmp_path))
    assert (encode(loaded, ENGLISH, 8) == encode(learnt, ENGLISH, 8)).all()


def test_a_folder_without_a_tokenizer_is_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"holds no tokenizer.*Operator action"):
        tokenizer_from_path(str(tmp_path))
