"""What is trained on what, for how long: one plan for each preset of the network. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from stream_app.events import SOURCE_TOPICS
from stream_app.simulator.options import SimulatorOptions

__all__ = ["PLANS", "Shop", "TrainingPlan"]

_HOUR_MS: Final = 3_600_000
_MINUTE_MS: Final = 60_000
_RUSH_DELAY_MS: Final = 5_000  # truths within seconds: a rush is over in minutes
_NOBODY: Final = ("session", "device", "ip")
_BARE: Final = (*_NOBODY, "platform", "price", "position", "dwell_ms")  # no more than who did what with which item, and when


@dataclass(frozen=True)
class Shop:
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


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Everything that decides the outcome of a training but the code and the library versions.

    Attributes:
        preset: the network's, see `model.presets`.
        shops: what to train on.
        seed: of initial weights and of the order of batches.
        epochs: at most so many passes; fewer when the validation losses stop falling for `patience` of them.
        batch: rows a step.
        learning_rate: the highest; it rises over the first steps and falls to zero over the rest (cosine).
        balance: `fixed` takes `weights`; `uncertainty` learns them (Kendall et al., CVPR 2018).
        weights: of each task's loss.
        fraud_weight: of a fraudulent row against an honest one. Taken back in the served probability.
        alert_precision: least precision of alerts on the validation range of each shop; decides the fraud threshold.
    """

    preset: str
    shops: tuple[Shop, ...]
    seed: int = 1
    epochs: int = 3
    patience: int = 2
    batch: int = 1_024
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    balance: Literal["fixed", "uncertainty"] = "fixed"
    weights: dict[str, float] = field(
        default_factory=lambda: {"fraud": 2.0, "intent": 1.0, "next_action": 1.0, "click": 0.5, "user_vector": 1.0}
    )
    fraud_weight: float = 5.0
    alert_precision: float = 0.97


def _shop(seed: int, events: int, events_per_s: float, label_delay_ms: int, start_hour: int = 0) -> SimulatorOptions:
    """A shop with the default goods, and visitors of its own; each event comes once and whole, as the model sees it."""
    base = SimulatorOptions()
    return replace(
        base,
        seed=seed,
        shop_seed=base.seed,
        events=events,
        events_per_s=events_per_s,
        label_delay_ms=label_delay_ms,
        start_ms=base.start_ms + start_hour * _HOUR_MS,
        malformed_share=0.0,
        duplicate_share=0.0,
    )


def _rush(seed: int, events: int, events_per_s: float, start_hour: int) -> SimulatorOptions:
    """A shop under load, just connected, as `millrace simulate` is live: sessions are under way, and nobody has a past."""
    users = max(20_000, int(100 * events_per_s))
    return replace(
        _shop(seed, events, events_per_s, _RUSH_DELAY_MS, start_hour), users=users, rhythm=False, warm_up_ms=3 * _MINUTE_MS
    )


PLANS: Final[dict[str, TrainingPlan]] = {
    # A week of a calm shop, in which users have a past; an afternoon of a busy one; and minutes of shops under load, as in a
    # demo or a benchmark, where nobody has a past and addresses are crowded, by day and by night. The shop is the simulator's
    # default one, its visitors are not: a demo shows the model shoppers and rings that it has not been trained on.
    # Then shops of which less is heard: without identifiers, without searches, and with nothing but orders at shared tills.
    # Without them the model takes what a poor log lacks for a sign of fraud: it alerted on 9 of 10 card transactions.
    # Two shops are kept aside whole: an alert is least precise in a shop's first minutes, and they decide the threshold.
    "demo": TrainingPlan(
        preset="demo",
        shops=(
            Shop(_shop(101, 300_000, 0.5, 3 * _HOUR_MS)),
            Shop(_shop(102, 120_000, 5.0, 5 * _MINUTE_MS, 11)),
            Shop(_rush(103, 120_000, 150.0, 19)),
            Shop(_rush(104, 180_000, 400.0, 34)),
            Shop(_rush(105, 200_000, 600.0, 60)),
            Shop(_rush(106, 130_000, 400.0, 85)),
            Shop(_rush(107, 310_000, 1_000.0, 27)),
            Shop(_shop(108, 150_000, 1.0, 3 * _HOUR_MS, 7), hidden=_NOBODY),
            Shop(_rush(109, 150_000, 500.0, 50), hidden=_NOBODY),
            Shop(_shop(110, 200_000, 1.0, 3 * _HOUR_MS, 31), ("clicks", "orders"), (*_BARE, "scene")),
            Shop(_rush(111, 250_000, 500.0, 76), ("clicks", "orders"), _BARE),
            Shop(
                replace(_shop(112, 1_200_000, 0.3, 3 * _HOUR_MS), users=1_200, fraud_share=0.005),
                ("orders",),
                ("session", "ip"),
                tills=500,
            ),
            Shop(_rush(113, 160_000, 400.0, 15), unseen=True),
            Shop(_rush(114, 330_000, 1_000.0, 65), unseen=True),
        ),
    ),
    # Enough to beat every floor, in seconds: for tests.
    "tiny": TrainingPlan(
        preset="tiny",
        shops=(Shop(replace(_shop(101, 30_000, 2.0, 5 * _MINUTE_MS), users=1_000, items=300, fraud_share=0.05)),),
        epochs=5,
        batch=512,
        learning_rate=1e-2,
    ),
}
