"""Tokens of texts: a tokenizer learnt from the train texts, or that of a Hugging Face model by path or name.

The learnt one uses byte pairs (Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016):
words are cut into pieces, each Chinese character is a word of its own, letters lose case and accents. It handles English, Chinese
and their mixture, and every text has tokens. Token 0 is padding. The same texts give the same tokens; BERT's WordPiece numbers
its pieces in the order of a random hash (tokenizers 0.23.3), byte pairs with a fixed alphabet do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import Metaspace, Punctuation, WhitespaceSplit
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.processors import BertProcessing
from tokenizers.trainers import BpeTrainer

from stream_app.errors import ContractError

_SPECIAL: Final = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # numbers 0 to 4, as BERT's are named
_MIN_COUNT: Final = 2  # pieces that occur once are left out


def learn_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn at most `vocabulary` tokens from texts; the same texts give the same tokenizer."""
    lines = list(texts)
    tokenizer = Tokenizer(BPE(unk_token=_SPECIAL[1]))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = PreTokenizers([WhitespaceSplit(), Metaspace(), Punctuation()])
    letters = _alphabet(tokenizer, lines, vocabulary - len(_SPECIAL))
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=_MIN_COUNT,
        special_tokens=_SPECIAL,
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def _alphabet(tokenizer: Tokenizer, texts: Sequence[str], limit: int) -> list[str]:
    """Return the commonest characters; the trainer would choose among equally common ones at random."""
    counts: Counter[str] = Counter()
    for text in texts:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)):
            counts.update(word)
    frequent = [letter for letter, count in counts.items() if count >= _MIN_COUNT]
    return sorted(frequent, key=lambda letter: (-counts[letter], letter))[:limit]


def tokenizer_from_path(path: str) -> Tokenizer:
    """Return the tokenizer of a Hugging Face model, by a local folder or a name on the hub.

    Raises:
        ContractError: There is no such tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        loaded: Any = AutoTokenizer.from_pretrained(path, use_fast=True)
    except (OSError, ValueError) as err:
        raise ContractError(
            f"[source.tokens] path {path!r} holds no tokenizer: {str(err).splitlines()[0]}. Operator action: give the folder "
            'of a Hugging Face model that is on this machine, or path = "" to learn one from the texts.'
        ) from err
    tokenizer: Tokenizer = loaded.backend_tokenizer
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> NDArray[np.int32]:
    """Return (N, length) int32 tokens, cut and padded with 0 at the end.

    The network reads 0 as padding, so a tokenizer must not use it for another token.
    """
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    tokens = np.zeros((len(texts), length), np.int32)
    for row, encoding in enumerate(tokenizer.encode_batch(list(texts))):
        tokens[row, : len(encoding.ids)] = encoding.ids
    return tokens
