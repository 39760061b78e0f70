"""A [source] section read as its plan; what is unknown, missing or of another type is told with the keys that there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from stream_app.errors import ConfigError

__all__ = ["plan_of"]

Plan = TypeVar("Plan", bound=msgspec.Struct)


def plan_of(section: Mapping[str, Any], kind: type[Plan]) -> Plan:
    """Return the section as a plan of this kind.

    Raises:
        ConfigError: A key is unknown, missing or of another type.
    """
    try:
        return msgspec.convert(dict(section), kind)
    except msgspec.ValidationError as err:
        keys = ", ".join(field.name for field in msgspec.structs.fields(kind))
        raise ConfigError(
            f"[source]: {err}. A source of kind {section.get('kind', '?')} has the keys {keys}; correct the configuration"
        ) from err
