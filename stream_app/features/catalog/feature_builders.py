"""Short forms of the declarations that come again and again; each returns one Feature, named after what it says."""

from __future__ import annotations

from typing import Final, Literal

from stream_app.features.declarations import EVENT, Feature

__all__ = [
    "FAR", "LONGEST_S", "MANY", "MUCH", "TIMES",
    "against", "age", "changed", "count", "distinct", "mean", "own", "rate", "recency", "spend", "trend", "zscore",
]  # fmt: skip

LONGEST_S: Final = 30 * 86_400.0  # recency is clipped here: the longest window; beyond it the past is forgotten anyway
MANY: Final = 1e6  # a count that no entity reaches by honest means; keeps a flood from dwarfing every other input
MUCH: Final = 1e9  # money, units of the currency: the bound of one event's amount (stream_app/events.py)
TIMES: Final = 1_000.0  # a ratio beyond it says nothing more
FAR: Final = 100.0  # standard deviations: likewise
Unit = Literal["currency", "seconds", "places"]
_HIGHEST: Final[dict[Unit, float]] = {"currency": MUCH, "seconds": 86_400.0, "places": 100_000.0}  # bounds of one event
_SAID: Final = {"browses": "views and clicks", "night_orders": "orders at night"}


def _of(entity: str) -> str:
    return entity.replace("_", " and ")


def count(entity: str, measure: str, window: str, reason: str) -> Feature:
    """How many of the entity's events are `measure`."""
    meaning = f"{measure} of the {_of(entity)} in the last {window}"
    return Feature(
        f"{entity}_{measure}_{window}", meaning, reason, entity, "count", "count", MANY, measure=measure, window=window
    )


def spend(entity: str, window: str, reason: str) -> Feature:
    """How much was ordered."""
    meaning = f"amount ordered by the {_of(entity)} in the last {window}"
    name = f"{entity}_spend_{window}"
    return Feature(name, meaning, reason, entity, "sum", "currency", MUCH, measure="spend", window=window)


def mean(
    entity: str,
    label: str,
    measure: str,
    per: str,
    window: str,
    reason: str,
    unit: Unit = "currency",
) -> Feature:
    """The mean of `measure` over the events that `per` counts."""
    meaning = f"mean {label.replace('_', ' ')} of the {_of(entity)} in the last {window}; 0 if none"
    name = f"{entity}_{label}_mean_{window}"
    return Feature(name, meaning, reason, entity, "mean", unit, _HIGHEST[unit], measure=measure, per=per, window=window)


def distinct(entity: str, of: str, plural: str, window: str, words: int, reason: str) -> Feature:
    """How many different ones were seen with the entity."""
    meaning = f"different {plural} seen with the {_of(entity)} in the last {window}"
    name = f"{entity}_distinct_{plural}_{window}"
    return Feature(name, meaning, reason, entity, "distinct", "count", MANY, measure=of, window=window, words=words)


def against(entity: str, window: str, reason: str) -> Feature:
    """This order's amount against the usual one."""
    meaning = f"this order over the mean order of the {_of(entity)} in the last {window}; 0 if no order, 1 if none before"
    name = f"{entity}_amount_vs_mean_{window}"
    return Feature(
        name, meaning, reason, entity, "ratio", "ratio", TIMES, default=1.0, measure="spend", per="orders", window=window
    )


def zscore(entity: str, window: str, reason: str) -> Feature:
    """This order's amount in standard deviations."""
    meaning = f"standard deviations of this order from the {_of(entity)}'s mean of the last {window}; 0 if no order, or below two"
    name = f"{entity}_amount_zscore_{window}"
    return Feature(
        name, meaning, reason, entity, "zscore", "deviations", FAR, low=-FAR, measure="spend", per="orders", window=window
    )


def rate(entity: str, label: str, measure: str, per: str, window: str, prior: tuple[float, float], reason: str) -> Feature:
    """`measure` per `per`, smoothed: the default is the prior's own rate."""
    up, down = prior
    default = up / down
    meaning = (
        f"({_SAID.get(measure, measure)} + {up:g}) / ({_SAID.get(per, per)} + {down:g}) of the {_of(entity)} in the last {window}"
    )
    return Feature(
        f"{entity}_{label}_rate_{window}", f"{meaning}; {default:g} without a past", reason, entity, "rate", "ratio", 1.0,
        default=default, measure=measure, per=per, window=window, prior=prior,
    )  # fmt: skip


def trend(entity: str, measure: str, window: str, base: str, reason: str) -> Feature:
    """The rate now against the usual rate."""
    meaning = f"{measure} per hour of the {_of(entity)} in the last {window} over those of the last {base}; 1 if none"
    name = f"{entity}_{measure}_trend_{window}_{base}"
    return Feature(name, meaning, reason, entity, "trend", "ratio", TIMES, default=1.0, measure=measure, window=window, base=base)


def recency(entity: str, reason: str, measure: str = "", singular: str = "") -> Feature:
    """Seconds since the newest event, or the newest of `measure`."""
    meaning = f"time since the newest {singular or 'event'} of the {_of(entity)}; {LONGEST_S:.0f} if there is none"
    name = f"{entity}_seconds_since_{singular or 'last'}"
    return Feature(name, meaning, reason, entity, "recency", "seconds", LONGEST_S, default=LONGEST_S, measure=measure)


def age(entity: str, reason: str) -> Feature:
    """Seconds since the first event that is known."""
    meaning = f"time since the first event of the {_of(entity)} that is still known; 0 if there is none"
    return Feature(f"{entity}_age_seconds", meaning, reason, entity, "age", "seconds", 3650 * 86_400.0)


def changed(entity: str, measure: str, reason: str) -> Feature:
    """Whether the event's own one differs from the last."""
    meaning = f"1 if the {measure} is not the one of the {_of(entity)}'s last event that had one; 0 if it is, or there is none"
    return Feature(f"{entity}_{measure}_changed", meaning, reason, entity, "changed", "flag", 1.0, measure=measure)


def own(name: str, meaning: str, unit: str, high: float, reason: str) -> Feature:
    """The event's own value of the measure of that name."""
    return Feature(name, meaning, reason, EVENT, "own", unit, high, measure="spend" if name == "amount" else name)
