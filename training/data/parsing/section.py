"""Read a [source] section as a plan; an error names the possible keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from stream_app.errors import ConfigError

Plan = TypeVar("Plan", bound=msgspec.Struct)


def read_plan(section: Mapping[str, Any], kind: type[Plan]) -> Plan:
    """Return the section as a plan of type `kind`.

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
