"""Simulated shops to train on, as a configuration describes them. No torch here.

A configuration with `[source] kind = "simulation"` has one `[[source.shops]]` for each shop, with the keys of `SimulatorOptions`
and `SimulatedShop`; `like` takes missing keys from `[source.like.<name>]`, and `start_hour` moves the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from stream_app.errors import ConfigError
from stream_app.events import SOURCE_TOPICS
from stream_app.simulator.options import SimulatorOptions

_HOUR_MS: Final = 3_600_000
_OPTIONS: Final = frozenset(field.name for field in fields(SimulatorOptions))
_OBSERVED: Final = frozenset({"topics", "hidden", "tills", "unseen"})


@dataclass(frozen=True)
class SimulatedShop:
    """A simulated shop, and the part of it that is observed.

    Attributes:
        options: options of the simulator.
        topics: observed topics, of events.SOURCE_TOPICS.
        hidden: fields that are left empty, as if the shop did not know them.
        tills: if above 0, the number of devices, which all shoppers share.
        unseen: whether all rows are validation rows: a shop that the model never trained on.
    """

    options: SimulatorOptions
    topics: tuple[str, ...] = SOURCE_TOPICS
    hidden: tuple[str, ...] = ()
    tills: int = 0
    unseen: bool = False

    def text(self) -> str:
        """Return a description for reports."""
        options = self.options
        parts = [f"seed {options.seed}: {options.events or 0:,} at {options.events_per_s:g}/s"]
        parts += [f"without {', '.join(self.hidden)}"] if self.hidden else []
        parts += [f"only {' and '.join(self.topics)}"] if self.topics != SOURCE_TOPICS else []
        parts += [f"{self.tills} tills"] if self.tills else []
        parts += ["all for validation"] if self.unseen else []
        return ", ".join(parts)


def shops_from(source: Mapping[str, Any]) -> tuple[SimulatedShop, ...]:
    """Return the shops of a configuration's section [source].

    All shops share the items of the simulator's default shop and have their own visitors; there are no duplicate or malformed
    events.

    Raises:
        ConfigError: An unknown key, an undefined `like`, or no shop.
    """
    templates, shops = source.get("like", {}), source.get("shops", [])
    problems = [] if shops else ["[source]: describes no shop; add a [[source.shops]] with its seed and events"]
    shop_values = []
    for number, shop in enumerate(shops, start=1):
        like = shop.get("like")
        if like is not None and like not in templates:
            problems.append(
                f"shop {number}: like = {like!r}: no such template; write [source.like.{like}] or one of {sorted(templates)}"
            )
        values = {**templates.get(like, {}), **{key: value for key, value in shop.items() if key != "like"}}
        unknown = sorted(values.keys() - _OPTIONS - _OBSERVED - {"start_hour"})
        problems += [f"shop {number}: {key}: no such key; it is one of {sorted(_OPTIONS | _OBSERVED)}" for key in unknown]
        shop_values.append(values)
    if problems:
        msg = "The shops to train on are described wrongly:\n" + "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigError(msg)
    return tuple(_shop(values) for values in shop_values)


def _shop(values: Mapping[str, Any]) -> SimulatedShop:
    base = SimulatorOptions()
    start_ms = base.start_ms + int(values.get("start_hour", 0)) * _HOUR_MS
    clean = replace(base, shop_seed=base.seed, start_ms=start_ms, malformed_share=0.0, duplicate_share=0.0)
    options = replace(clean, **{key: value for key, value in values.items() if key in _OPTIONS})
    observed: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in _OBSERVED
    }
    return SimulatedShop(options, **observed)
