"""What rows look like: for each kind of input, its tensors and the sizes that an encoder needs. No torch here.

Codes outside their range are read as the nearest one, never refused: a newer producer may know more than the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from model.contract import INPUTS, TensorSpec

__all__ = ["EventInputs", "Inputs", "SequenceInputs", "TableInputs", "TextInputs", "inputs_from_plain", "plain_from_inputs"]


@dataclass(frozen=True)
class EventInputs:
    """Events of a shop, as the worker sees them: the tensors of `model.contract.INPUTS`.

    Attributes:
        features: number of dense features, F.
    """

    features: int
    kind: ClassVar[str] = "event"

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return the tensors of a row, in order."""
        return tuple(TensorSpec(s.name, s.dtype, tuple(self.features if n == -1 else n for n in s.shape)) for s in INPUTS)


@dataclass(frozen=True)
class TableInputs:
    """Rows of a table.

    Attributes:
        dense: number of numeric columns, F; raw, NaN = not known.
        categories: number of codes of each category column; 0 is "unknown", codes are 0..rows-1.
        scenes: number of scenes, if rows come from several (tenants, domains, channels); 0 = they do not.
    """

    dense: int
    categories: tuple[int, ...] = ()
    scenes: int = 0
    kind: ClassVar[str] = "table"

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return the tensors of a row, in order: `dense` (F,), `categories` (C,), `scene` (), each only if there is any."""
        found = [TensorSpec("dense", "float32", (self.dense,))] if self.dense else []
        found += [TensorSpec("categories", "int32", (len(self.categories),))] if self.categories else []
        return (*found, *_scene(self.scenes))


@dataclass(frozen=True)
class TextInputs:
    """Short texts: tokens for a transformer, and hashed n-grams with their weights (such as TF-IDF) for a linear reader.

    Attributes:
        vocabulary: number of tokens; 0 is padding.
        length: tokens of a text, L; longer ones are cut, shorter ones padded at the end.
        grams: n-grams of a text, G; 0 = none. Numbers are buckets below `gram_buckets`; 0 is padding.
        scenes: number of scenes (domains, shops, languages); 0 = no scenes.
        path: of a Hugging Face model: a local folder or the name of one on the hub, whose weights are where training starts.
            "" = a small one, trained from nothing.
        gram_buckets: rows of the table of n-grams.
    """

    vocabulary: int
    length: int
    grams: int = 0
    scenes: int = 0
    path: str = ""
    gram_buckets: int = 65_536
    kind: ClassVar[str] = "text"

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return the tensors of a row, in order: `tokens` (L,), `grams` and `gram_values` (G,), `scene` ()."""
        found = [TensorSpec("tokens", "int32", (self.length,))]
        if self.grams:
            found += [TensorSpec("grams", "int32", (self.grams,)), TensorSpec("gram_values", "float32", (self.grams,))]
        return (*found, *_scene(self.scenes))


@dataclass(frozen=True)
class SequenceInputs:
    """Items that somebody touched, oldest first.

    Attributes:
        items: number of items; item n stands in a sequence as n + 1.
        length: positions, L; padding (0) in front.
    """

    items: int
    length: int
    kind: ClassVar[str] = "sequence"

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return the tensor of a row: `sequence` (L,)."""
        return (TensorSpec("sequence", "int32", (self.length,)),)


Inputs = EventInputs | TableInputs | TextInputs | SequenceInputs
_KINDS: Final[Mapping[str, type[Inputs]]] = {kind.kind: kind for kind in (EventInputs, TableInputs, TextInputs, SequenceInputs)}


def plain_from_inputs(inputs: Inputs) -> dict[str, Any]:
    """Return plain values that JSON, or a checkpoint read with `weights_only=True`, can hold."""
    return {"kind": inputs.kind, **asdict(inputs)}


def inputs_from_plain(plain: Mapping[str, Any]) -> Inputs:
    """Return the inputs that `plain_from_inputs` was given, also after JSON has turned tuples into lists.

    Raises:
        ValueError: Its `kind` is none of ours.
    """
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}
    name = values.pop("kind")
    kind = _KINDS.get(name)
    if kind is None:
        raise ValueError(f"inputs of kind {name!r}, known are {', '.join(_KINDS)}; write it with this version again")
    return kind(**values)


def _scene(scenes: int) -> tuple[TensorSpec, ...]:
    return (TensorSpec("scene", "int32", ()),) if scenes else ()
