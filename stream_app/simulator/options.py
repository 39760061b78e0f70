"""Options of a simulation; all wrong ones are refused together, before the first record.

The same options give the same bytes. Times are epoch milliseconds UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stream_app.errors import ConfigError

DAY_MS: Final = 86_400_000
# A Thursday, midnight UTC: simulations start at a fixed time so that two runs of a seed are byte-identical.
_START_MS: Final = 1_767_225_600_000  # 2026-01-01

_LEAST: Final = {
    "users": 10,
    "items": 20,
    "start_ms": 40 * DAY_MS,  # late events reach back from it
    "warm_up_ms": 0,
    "label_delay_ms": 0,
    "events": 1,
    "duration_ms": 1,
}
_SHARES: Final = ("fraud_share", "late_share", "out_of_order_share", "duplicate_share", "malformed_share")


@dataclass(frozen=True, kw_only=True)
class SimulatorOptions:
    """Size, time, pace and shares of one simulation. It ends at `events` or after `duration_ms`, whichever is first.

    Attributes:
        seed: The same seed and options give the same bytes.
        shop_seed: Of the items, their prices and the result pages; None = `seed`. Other shoppers in the same shop: another
            `seed`, the same `shop_seed`.
        users: Regular shoppers; first-time shoppers and those of rings come on top.
        items: Items of the catalogue, over up to 120 categories.
        start_ms: Event time of the beginning.
        events: Records on the source topics after which it ends, copies and malformed ones included; None = no limit.
        duration_ms: Event time after which it ends; None = no limit.
        events_per_s: Mean rate in event time. With `users` it fixes how busy each shopper is.
        rhythm: Whether the rate follows the hour of the day and the day of the week.
        warm_up_ms: Event time simulated before the start and thrown away, so that sessions are under way at the start; 0 is
            an opening day, on which nobody is in the shop yet.
        fraud_share: Share of events that belong to fraud rings, in [0, 0.5].
        late_share: Share of events that arrive an hour to 36 hours after they happened.
        out_of_order_share: Share of events that arrive half a second to 20 s after they happened.
        duplicate_share: Share of events that arrive twice, byte for byte, within 20 s.
        malformed_share: Broken records added, as a share of the events.
        label_delay_ms: Typical delay of a truth; each takes between a half and twice as long.
        intent_labels: Whether each event's session intent is put on `labels` too (as many labels as events).
        id_prefix: Begins every event and session id; give each run its own where runs share topics.
    """

    seed: int = 7
    shop_seed: int | None = None
    users: int = 20_000
    items: int = 4_000
    start_ms: int = _START_MS
    events: int | None = 100_000
    duration_ms: int | None = None
    events_per_s: float = 5.0
    rhythm: bool = True
    warm_up_ms: int = 0
    fraud_share: float = 0.02
    late_share: float = 0.005
    out_of_order_share: float = 0.005
    duplicate_share: float = 0.005
    malformed_share: float = 0.001
    label_delay_ms: int = 7 * DAY_MS
    intent_labels: bool = False
    id_prefix: str = ""

    def __post_init__(self) -> None:
        """Check all bounds, and name every violation in one message."""
        problems = [
            f"{name} is {value}; it must be at least {least}"
            for name, least in _LEAST.items()
            if (value := getattr(self, name)) is not None and value < least
        ]
        if not 0 < self.events_per_s <= 1e6:
            problems.append(f"events_per_s is {self.events_per_s}; it must be above 0 and at most 1000000")
        problems += [
            f"{name} is {value}; a share is between 0 and 0.5"
            for name in _SHARES
            if not 0 <= (value := getattr(self, name)) <= 0.5
        ]
        if problems:
            raise ConfigError("The simulator's options are wrong:\n" + "\n".join(f"  - {problem}" for problem in problems))

    @property
    def prefix(self) -> str:
        """Prefix of every event and session id."""
        return self.id_prefix or f"sim{self.seed}-"
