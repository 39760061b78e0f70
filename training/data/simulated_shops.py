"""Simulated shops to train on, as a configuration describes them. No torch here.

A configuration with `[source] kind = "simulation"` has one `[[source.shops]]` for each shop; its keys are those of
`SimulatorOptions` and of `SimulatedShop`, and `like` takes what is not given from `[source.like.<name>]`. `start_hour` moves
the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from stream_app.errors import ConfigError
from stream_app.events import SOURCE_TOPICS
from stream_app.simulator.options import SimulatorOptions

__all__ = ["SimulatedShop", "shops_from"]

_HOUR_MS: Final = 3_600_000
_OPTIONS: Final = frozenset(field.name for field in fields(SimulatorOptions))
_HEARD: Final = frozenset({"topics", "hidden", "tills", "unseen"})


@dataclass(frozen=True)
class SimulatedShop:
    """A simulated shop, and what is heard of it.

    Attributes:
        options: the shop.
        topics: what of it is connected, of events.SOURCE_TOPICS.
        hidden: fields that its events come without, as if the shop did not know them.
        tills: if above 0, its events come from so many devices, which all shoppers share.
        unseen: whether all of it is validation: a shop that the model meets for the first time, from its first event on.
    """

    options: SimulatorOptions
    topics: tuple[str, ...] = SOURCE_TOPICS
    hidden: tuple[str, ...] = ()
    tills: int = 0
    unseen: bool = False

    def text(self) -> str:
        """Tell a person what it is."""
        options = self.options
        parts = [f"seed {options.seed}: {options.events or 0:,} at {options.events_per_s:g}/s"]
        parts += [f"without {', '.join(self.hidden)}"] if self.hidden else []
        parts += [f"only {' and '.join(self.topics)}"] if self.topics != SOURCE_TOPICS else []
        parts += [f"{self.tills} tills"] if self.tills else []
        parts += ["all for validation"] if self.unseen else []
        return ", ".join(parts)


def shops_from(source: Mapping[str, Any]) -> tuple[SimulatedShop, ...]:
    """Return the shops of a configuration's section [source].

    All have the goods of the simulator's default shop, and visitors of their own; each event comes once and whole, as the
    model sees it.

    Raises:
        ConfigError: A key that there is not, a `like` that is not described, or no shop at all.
    """
    kinds, shops = source.get("like", {}), source.get("shops", [])
    problems = [] if shops else ["[source]: describes no shop; add a [[source.shops]] with its seed and events"]
    described = []
    for number, shop in enumerate(shops, start=1):
        like = shop.get("like")
        if like is not None and like not in kinds:
            problems.append(
                f"shop {number}: like = {like!r}: there is no such; write [source.like.{like}] or one of {sorted(kinds)}"
            )
        values = {**kinds.get(like, {}), **{key: value for key, value in shop.items() if key != "like"}}
        unknown = sorted(values.keys() - _OPTIONS - _HEARD - {"start_hour"})
        problems += [f"shop {number}: {key}: no such key; it is one of {sorted(_OPTIONS | _HEARD)}" for key in unknown]
        described.append(values)
    if problems:
        msg = "The shops to train on are described wrongly:\n" + "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigError(msg)
    return tuple(_shop(values) for values in described)


def _shop(values: Mapping[str, Any]) -> SimulatedShop:
    base = SimulatorOptions()
    start_ms = base.start_ms + int(values.get("start_hour", 0)) * _HOUR_MS
    plain = replace(base, shop_seed=base.seed, start_ms=start_ms, malformed_share=0.0, duplicate_share=0.0)
    options = replace(plain, **{key: value for key, value in values.items() if key in _OPTIONS})
    heard: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in _HEARD
    }
    return SimulatedShop(options, **heard)
