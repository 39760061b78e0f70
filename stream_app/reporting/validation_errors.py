"""Pydantic's validation errors as one line each: the key, the value, what is allowed and the fix.

The worker's settings and the training configuration share it. A secret's value never appears.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import SecretStr

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

_TYPES: Final = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "tuple_type": "a list",
}
_SECRETS: Final = (  # rather too much than too little: a password that holds & or @ must not show its end
    (re.compile(r"([?&]\w*password=).*", re.DOTALL | re.IGNORECASE), r"\1********"),
    (re.compile(r"://([^:/?#]*):.*@", re.DOTALL), r"://\1:********@"),
)
_SECTION_TYPES: Final = ("dataclass_type", "model_type", "dict_type")
_UNKNOWN_KEYS: Final = ("unexpected_keyword_argument", "extra_forbidden")


@dataclass(frozen=True, slots=True)
class ErrorStyle:
    """The wording of lines about one source of values.

    Attributes:
        spell: Spells the path of a key as the source does.
        noun: The name of a key.
        fix: The end of a line about a wrong value.
        unknown_fix: The advice about an unknown key that resembles no known one; empty: the line lists the known keys.
    """

    spell: Callable[[Sequence[str]], str] = ".".join
    noun: str = "key"
    fix: str = ""
    unknown_fix: str = ""


def problem_lines(error: ValidationError, model: type, tree: Mapping[str, Any], style: ErrorStyle = ErrorStyle()) -> list[str]:
    """Return one line for each problem of values that were validated against `model`, in the order of the keys of `tree`.

    Args:
        error: The problems.
        model: A pydantic dataclass or model.
        tree: The values as their source has them.
        style: The spelling of keys, and the advice.
    """
    lines = []
    for detail in error.errors():
        path = [str(part) for part in detail["loc"] if part != "[key]"]
        position, value = _locate(path, tree)
        lines.append((position, _line(detail, path, value, model, style)))
    return [line for _, line in sorted(lines, key=lambda item: item[0])]


def model_fields(model: Any, path: Sequence[str] = ()) -> dict[str, FieldInfo]:  # noqa: ANN401 (a type or a generic alias)
    """Return the fields of the section at `path` below a pydantic dataclass or model, by their names in a file."""
    for part in path:
        fields, arguments = model_fields(model), get_args(model)
        model = fields[part].annotation if part in fields else arguments[-1] if arguments else None
    fields = getattr(model, "__pydantic_fields__", {})
    return {info.alias or name: info for name, info in fields.items() if info.init is not False}


def bounds_of(info: FieldInfo) -> tuple[float | None, float | None]:
    """Return the least and the greatest value of a number, both inclusive; None: no bound."""
    bounds = {name: getattr(item, name) for item in info.metadata for name in ("ge", "le") if hasattr(item, name)}
    return bounds.get("ge"), bounds.get("le")


def closest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a hint about an unknown name: the known one that resembles it, else `otherwise`, else all known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else otherwise or f"there are {', '.join(names) or 'none'}"


def masked(text: str) -> str:
    """Return a URL, alone or quoted, with its passwords replaced by stars, also where `@`, `#` or `/` in them is not encoded."""
    for secret, stars in _SECRETS:
        text = secret.sub(stars, text)
    return text


def _line(detail: ErrorDetails, path: list[str], value: object, model: type, style: ErrorStyle) -> str:
    name, kind, context = style.spell(path), detail["type"], detail.get("ctx", {})
    if kind in _UNKNOWN_KEYS:
        hint = closest(path[-1], model_fields(model, path[:-1]), style.unknown_fix)
        return (
            f"{name}: no such {style.noun}; {hint}" if path[1:] else f"{style.spell([f'[{path[0]}]'])}: no such section; {hint}"
        )
    if kind == "missing":
        return f"{name}: is missing"
    info = model_fields(model, path[:-1]).get(path[-1]) if path else None
    if info is not None and info.annotation is SecretStr:
        low = next(item.min_length for item in info.metadata if hasattr(item, "min_length"))
        return f"{name}: must be text of at least {low} characters; set a longer one (the value is not shown)"
    shown = re.sub(r"://.*", "://********'", repr(value)) if info is not None and info.repr is False else masked(repr(value))
    text = "" if isinstance(value, Mapping) else f" = {shown}"
    if kind in _SECTION_TYPES:
        return f"{name}{text}: is a section; write [{'.'.join(path)}] and its keys below it"
    if kind == "value_error":  # of a validator of ours
        return f"{name}{text}: {context['error']}"
    return f"{name}{text}: must be {_allowed(kind, context, info)}{style.fix}"


def _allowed(kind: str, context: Mapping[str, Any], info: FieldInfo | None) -> str:
    if kind == "literal_error" and info is not None:
        return "one of " + ", ".join(map(str, get_args(info.annotation)))
    if kind == "string_pattern_mismatch":
        return f"text that matches {context['pattern'].removeprefix('^').removesuffix('$')}"
    if kind.startswith(("greater_than", "less_than")) and info is not None:
        low, high = bounds_of(info)
        return f"at least {low}" if high is None else f"between {low} and {high}"
    return _TYPES.get(kind, kind.replace("_", " "))


def _locate(path: Sequence[str], tree: Any) -> tuple[list[int], Any]:  # noqa: ANN401 (a value of any type)
    """Return the positions of the keys of `path` in `tree` and the value at its end."""
    positions = []
    for part in path:
        values = tree if isinstance(tree, Mapping) else dict(enumerate(tree)) if isinstance(tree, list | tuple) else {}
        keys = [str(key) for key in values]
        positions.append(keys.index(part) if part in keys else -1)
        tree = list(values.values())[positions[-1]] if part in keys else None
    return positions, tree
