"""Kinds of rows: for each kind of input, its tensors and the sizes for its encoder. Free of torch.

A code outside its range is read as the nearest valid code, never refused: a newer producer may know more than the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from model.contract import INPUTS, TensorSpec


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
        dense: number of numeric columns, F; raw, NaN = unknown.
        categories: number of codes of each category column; 0 is "unknown", codes are 0..rows-1.
        scenes: number of scenes (tenants, domains, channels); 0 = no scenes.
    """

    dense: int
    categories: tuple[int, ...] = ()
    scenes: int = 0
    kind: ClassVar[str] = "table"

    def tensors(self) -> tuple[TensorSpec, ...]:
        """Return the tensors of a row, in order: `dense` (F,), `categories` (C,), `scene` (), each if it exists."""
        specs = [TensorSpec("dense", "float32", (self.dense,))] if self.dense else []
        specs += [TensorSpec("categories", "int32", (len(self.categories),))] if self.categories else []
        return (*specs, *_scene(self.scenes))


@dataclass(frozen=True)
class TextInputs:
    """Short texts: tokens for a transformer, and hashed n-grams with their weights (such as TF-IDF) for a linear reader.

    Attributes:
        vocabulary: number of tokens; 0 is padding.
        length: tokens of a text, L; longer ones are cut, shorter ones padded at the end.
        grams: n-grams of a text, G; 0 = none. Numbers are buckets below `gram_buckets`; 0 is padding.
        scenes: number of scenes (domains, shops, languages); 0 = no scenes.
        path: of a Hugging Face model, a local folder or a name on the hub, whose weights training starts from.
            "" = a small model with random weights.
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
        specs = [TensorSpec("tokens", "int32", (self.length,))]
        if self.grams:
            specs += [TensorSpec("grams", "int32", (self.grams,)), TensorSpec("gram_values", "float32", (self.grams,))]
        return (*specs, *_scene(self.scenes))


@dataclass(frozen=True)
class SequenceInputs:
    """Items of a user's history, oldest first.

    Attributes:
        items: number of items; item n is n + 1 in a sequence.
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


def json_from_inputs(inputs: Inputs) -> dict[str, Any]:
    """Return values for JSON, or for a checkpoint that is read with `weights_only=True`."""
    return {"kind": inputs.kind, **asdict(inputs)}


def inputs_from_json(values: Mapping[str, Any]) -> Inputs:
    """Invert `json_from_inputs`, also after JSON has turned tuples into lists.

    Raises:
        ValueError: `kind` is unknown.
    """
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    name = fields.pop("kind")
    kind = _KINDS.get(name)
    if kind is None:
        raise ValueError(f"inputs of kind {name!r}, known are {', '.join(_KINDS)}; write it with this version again")
    return kind(**fields)


def _scene(scenes: int) -> tuple[TensorSpec, ...]:
    return (TensorSpec("scene", "int32", ()),) if scenes else ()
