"""Short forms of frequent declarations. Each returns one Feature, whose name and meaning follow from the arguments."""

from __future__ import annotations

from typing import Final, Literal

from stream_app.features.declarations import EVENT, Feature

MAX_AGE_S: Final = 30 * 86_400.0  # clips recency at the longest window; the state has forgotten what is older
MAX_COUNT: Final = 1e6  # a count that no entity reaches by honest means; keeps a flood from dwarfing every other input
MAX_MONEY: Final = 1e9  # units of the currency: the bound of one event's amount (stream_app/events.py)
MAX_RATIO: Final = 1_000.0  # a larger ratio carries no more information
MAX_ZSCORE: Final = 100.0  # standard deviations: likewise
Unit = Literal["currency", "seconds", "places"]
_MAX_BY_UNIT: Final[dict[Unit, float]] = {"currency": MAX_MONEY, "seconds": 86_400.0, "places": 100_000.0}  # of one event
_IN_WORDS: Final = {"browses": "views and clicks", "night_orders": "orders at night"}


def _in_words(entity: str) -> str:
    return entity.replace("_", " and ")


def count(entity: str, measure: str, *, window: str, reason: str) -> Feature:
    """Return how many of the entity's events are `measure`."""
    return Feature(
        name=f"{entity}_{measure}_{window}", meaning=f"{measure} of the {_in_words(entity)} in the last {window}", entity=entity,
        aggregation="count", measure=measure, window=window, unit="count", high=MAX_COUNT, reason=reason,
    )  # fmt: skip


def spend(entity: str, *, window: str, reason: str) -> Feature:
    """Return the amount ordered."""
    return Feature(
        name=f"{entity}_spend_{window}", meaning=f"amount ordered by the {_in_words(entity)} in the last {window}", entity=entity,
        aggregation="sum", measure="spend", window=window, unit="currency", high=MAX_MONEY, reason=reason,
    )  # fmt: skip


def mean(
    entity: str, *, label: str, measure: str, per: str, window: str, reason: str, unit: Unit = "currency"
) -> Feature:  # fmt: skip
    """Return the mean of `measure` over the events that `per` counts."""
    return Feature(
        name=f"{entity}_{label}_mean_{window}",
        meaning=f"mean {label.replace('_', ' ')} of the {_in_words(entity)} in the last {window}; 0 if none", entity=entity,
        aggregation="mean", measure=measure, per=per, window=window, unit=unit, high=_MAX_BY_UNIT[unit], reason=reason,
    )  # fmt: skip


def distinct(entity: str, *, measure: str, plural: str, window: str, words: int, reason: str) -> Feature:
    """Return how many different values of `measure` came with the entity."""
    return Feature(
        name=f"{entity}_distinct_{plural}_{window}",
        meaning=f"different {plural} seen with the {_in_words(entity)} in the last {window}", entity=entity,
        aggregation="distinct", measure=measure, window=window, words=words, unit="count", high=MAX_COUNT, reason=reason,
    )  # fmt: skip


def amount_vs_mean(entity: str, *, window: str, reason: str) -> Feature:
    """Return this order's amount over the mean of the entity's orders."""
    where = f"the mean order of the {_in_words(entity)} in the last {window}"
    return Feature(
        name=f"{entity}_amount_vs_mean_{window}", meaning=f"this order over {where}; 0 if no order, 1 if none before",
        entity=entity, aggregation="ratio", measure="spend", per="orders", window=window, unit="ratio", high=MAX_RATIO,
        default=1.0, reason=reason,
    )  # fmt: skip


def zscore(entity: str, *, window: str, reason: str) -> Feature:
    """Return this order's amount in standard deviations from the mean of the entity's orders."""
    where = f"the {_in_words(entity)}'s mean of the last {window}"
    return Feature(
        name=f"{entity}_amount_zscore_{window}",
        meaning=f"standard deviations of this order from {where}; 0 if no order, or below two", entity=entity,
        aggregation="zscore", measure="spend", per="orders", window=window, unit="deviations", high=MAX_ZSCORE, low=-MAX_ZSCORE,
        reason=reason,
    )  # fmt: skip


def rate(
    entity: str, *, label: str, measure: str, per: str, window: str, prior: tuple[float, float], reason: str
) -> Feature:  # fmt: skip
    """Return `measure` per `per`, smoothed by the prior, whose own rate is the default."""
    up, down = prior
    default = up / down
    ratio = f"({_IN_WORDS.get(measure, measure)} + {up:g}) / ({_IN_WORDS.get(per, per)} + {down:g})"
    return Feature(
        name=f"{entity}_{label}_rate_{window}",
        meaning=f"{ratio} of the {_in_words(entity)} in the last {window}; {default:g} without a past", entity=entity,
        aggregation="rate", measure=measure, per=per, window=window, prior=prior, unit="ratio", high=1.0, default=default,
        reason=reason,
    )  # fmt: skip


def trend(entity: str, measure: str, *, window: str, base: str, reason: str) -> Feature:
    """Return the rate of the short window over that of the long one."""
    where = f"{measure} per hour of the {_in_words(entity)} in the last {window}"
    return Feature(
        name=f"{entity}_{measure}_trend_{window}_{base}", meaning=f"{where} over those of the last {base}; 1 if none",
        entity=entity, aggregation="trend", measure=measure, window=window, base=base, unit="ratio", high=MAX_RATIO, default=1.0,
        reason=reason,
    )  # fmt: skip


def recency(entity: str, *, reason: str, measure: str = "", singular: str = "") -> Feature:
    """Return the seconds since the newest event, or since the newest of `measure`."""
    return Feature(
        name=f"{entity}_seconds_since_{singular or 'last'}",
        meaning=f"time since the newest {singular or 'event'} of the {_in_words(entity)}; {MAX_AGE_S:.0f} if there is none",
        entity=entity, aggregation="recency", measure=measure, unit="seconds", high=MAX_AGE_S, default=MAX_AGE_S, reason=reason,
    )  # fmt: skip


def age(entity: str, *, reason: str) -> Feature:
    """Return the seconds since the first event that is still known."""
    return Feature(
        name=f"{entity}_age_seconds",
        meaning=f"time since the first event of the {_in_words(entity)} that is still known; 0 if there is none", entity=entity,
        aggregation="age", unit="seconds", high=3650 * 86_400.0, reason=reason,
    )  # fmt: skip


def changed(entity: str, measure: str, *, reason: str) -> Feature:
    """Return whether the event's own value differs from the last one."""
    where = f"the one of the {_in_words(entity)}'s last event that had one"
    return Feature(
        name=f"{entity}_{measure}_changed", meaning=f"1 if the {measure} is not {where}; 0 if it is, or there is none",
        entity=entity, aggregation="changed", measure=measure, unit="flag", high=1.0, reason=reason,
    )  # fmt: skip


def own(name: str, *, meaning: str, unit: str, high: float, reason: str) -> Feature:
    """Return the event's own value of the measure of that name."""
    return Feature(
        name=name, meaning=meaning, entity=EVENT, aggregation="own", measure="spend" if name == "amount" else name, unit=unit,
        high=high, reason=reason,
    )  # fmt: skip
