"""Five kinds of fraud rings, each with its signals and its disguise.

    card_testing      few devices try many stolen cards on small orders, seconds apart
    account_takeover  a regular's account, suddenly from a new device abroad, at the account pages, then buying dear things
    device_farm       many fresh accounts on one device and line collect the campaign's discount, all sending to one address
    refund_abuse      a buyer of dear things who asks for the money back soon after, again and again
    bot_clicking      clicks at a machine's pace, place after place, thousandths of a second apart from regular

Every event of a ring is labelled with its kind. Rings start at random; their rate follows from the configured share of fraud
events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from stream_app.events import Intent
from stream_app.simulator.catalogue import Item, ItemCatalogue
from stream_app.simulator.draws import between, cumulative, pick, seeded, skewed_index, spread
from stream_app.simulator.shoppers import COUNTRIES, Population, Shopper, foreign_ip
from stream_app.simulator.visit import Payment, SimulatedAction, Visit, VisitNumbers

FRAUD_KINDS: Final = ("card_testing", "account_takeover", "device_farm", "refund_abuse", "bot_clicking")
# Events of one ring of each kind, measured over 2,000; and each kind's intended share of all ring events.
_RING_EVENTS: Final = (66.0, 15.4, 123.0, 47.0, 143.0)
_EVENT_SHARES: Final = (0.25, 0.2, 0.2, 0.15, 0.2)
_RING_SHARES: Final = tuple(share / size for share, size in zip(_EVENT_SHARES, _RING_EVENTS, strict=True))
_RUNNING: Final = cumulative(_RING_SHARES)
MEAN_RING_EVENTS: Final = 1.0 / sum(_RING_SHARES)  # over the mixture of kinds


class Rings:
    """Writes fraud rings."""

    def __init__(self, seed: int, catalogue: ItemCatalogue, population: Population, numbers: VisitNumbers) -> None:
        self._rng = seeded(seed, "fraud")
        self._catalogue = catalogue
        self._population = population
        self._numbers = numbers
        self._rings = 0
        self._devices = 0
        by_price = sorted(catalogue.items, key=lambda item: (item.price, item.id))
        self._cheap = by_price[: max(5, len(by_price) // 50)]
        self._dear = by_price[-max(5, len(by_price) // 12) :]
        self._writers: tuple[Callable[[int], list[Visit]], ...] = (
            self._card_testing,
            self._account_takeover,
            self._device_farm,
            self._refund_abuse,
            self._bot_clicking,
        )

    def next_ring(self, start_ms: int) -> list[SimulatedAction]:
        """Return all events of one ring that begins at `start_ms`, in no particular order."""
        self._rings += 1
        return self.ring(FRAUD_KINDS[pick(self._rng, _RUNNING)], start_ms)

    def ring(self, kind: str, start_ms: int) -> list[SimulatedAction]:
        """Return all events of one ring of this kind. A takeover needs a regular; before there is one, it is card testing."""
        visits = self._writers[FRAUD_KINDS.index(kind)](start_ms)
        return [action for visit in visits for action in visit]

    # --- the kinds ----------------------------------------------------------------------------------------------------

    def _card_testing(self, start_ms: int) -> list[Visit]:
        rng = self._rng
        devices = [self._device() for _ in range(between(rng, 1, 3))]
        ips = [self._ip() for _ in range(between(rng, 1, 2))]
        accounts = [self._population.newcomer() for _ in range(between(rng, 1, 3))]
        visits, now = [], start_ms
        for number in range(between(rng, 20, 45)):
            visit = self._enter("card_testing", accounts[number % len(accounts)], now, devices, ips)
            item = self._cheap[skewed_index(rng, len(self._cheap))]
            if rng.random() < 0.6:
                visit.act("view", item, "detail", dwell_ms=spread(rng, 900, 2))
            if rng.random() < 0.4:
                visit.pause(spread(rng, 700, 2))
                visit.act("cart", item, "detail")
            visit.pause(spread(rng, 3_500, 2))
            visit.order([(item, 1)], self._stolen_card(f"p8{self._rings:05d}{number:03d}", visit.shopper.address))
            visits.append(visit)
            now = visit.now_ms + int(spread(rng, 6_000, 3))
        return visits

    def _account_takeover(self, start_ms: int) -> list[Visit]:
        rng = self._rng
        victim = self._population.regular()
        if victim is None:
            return self._card_testing(start_ms)
        visit = self._enter("account_takeover", victim, start_ms, [self._device()], [self._ip()])
        drop = f"a7{self._rings:06d}"
        for _ in range(between(rng, 2, 4)):  # the account's pages: the address is changed
            visit.act("click", self._dear_item(), "other", position=between(rng, 0, 3), dwell_ms=spread(rng, 4_000, 2))
            visit.pause(spread(rng, 5_000, 2))
        for _ in range(between(rng, 2, 5)):
            item = self._dear_item()
            category = next(c for c in self._catalogue.categories if c.id == item.category)
            if rng.random() < 0.5:
                visit.browse_page(category, between(rng, 0, len(category.pages) - 1), category.goods)
                visit.pause(spread(rng, 5_000, 2))
            visit.act("view", item, "detail", dwell_ms=spread(rng, 6_000, 2))
            visit.pause(spread(rng, 2_000, 2))
            visit.act("cart", item, "detail")
            visit.pause(spread(rng, 12_000, 2))
            paid = Payment(victim.instruments[0], drop, victim.country, self._country(), self._country())
            visit.order([(item, between(rng, 1, 3))], paid)
            visit.pause(spread(rng, 60_000, 4))
        return [visit]

    def _device_farm(self, start_ms: int) -> list[Visit]:
        rng = self._rng
        device, ip, drop = self._device(), self._ip(), f"a6{self._rings:06d}"
        visits, now = [], start_ms
        for number in range(between(rng, 15, 35)):
            visit = self._enter("device_farm", self._population.newcomer(), now, [device], [ip])
            for _ in range(between(rng, 2, 5)):
                item = self._catalogue.items[skewed_index(rng, len(self._catalogue.items), 3.0)]
                visit.act("click", item, "campaign", position=between(rng, 0, 3), dwell_ms=spread(rng, 1_200, 2))
                visit.pause(spread(rng, 1_500, 2))
            if rng.random() < 0.7:
                item = self._cheap[-1 - skewed_index(rng, len(self._cheap))]
                visit.act("cart", item, "campaign")
                visit.pause(spread(rng, 5_000, 2))
                visit.order([(item, 1)], self._own_card(visit.shopper, f"p6{self._rings:05d}{number // 5:03d}", drop))
            visits.append(visit)
            now = visit.now_ms + int(spread(rng, 25_000, 3))
        return visits

    def _refund_abuse(self, start_ms: int) -> list[Visit]:
        rng = self._rng
        abuser = self._population.regular() or self._population.newcomer()
        visits, now = [], start_ms
        for _ in range(between(rng, 4, 7)):
            buy = self._enter("refund_abuse", abuser, now, abuser.devices[:1], [abuser.home_ip], intent="buy")
            item = self._dear_item()
            buy.act("view", item, "detail", dwell_ms=spread(rng, 8_000, 2))
            buy.pause(spread(rng, 2_000, 2))
            buy.act("cart", item, "detail")
            buy.pause(spread(rng, 15_000, 2))
            buy.order([(item, between(rng, 1, 2))], self._own_card(abuser, abuser.instruments[0], abuser.address))
            back_ms = buy.now_ms + int(spread(rng, 1_500_000, 4))  # the parcel is not even packed
            back = self._enter("refund_abuse", abuser, back_ms, abuser.devices[:1], [abuser.home_ip], intent="return")
            back.search("refund status", [])
            for _ in range(between(rng, 3, 6)):
                back.pause(spread(rng, 5_000, 2))
                back.act("click", item, "service", position=0, dwell_ms=spread(rng, 6_000, 2))
            visits += [buy, back]
            now = back.now_ms + int(spread(rng, 5_400_000, 4))
        return visits

    def _bot_clicking(self, start_ms: int) -> list[Visit]:
        rng = self._rng
        visit = self._enter("bot_clicking", self._population.newcomer(), start_ms, [self._device()], [self._ip()], "look")
        category = self._catalogue.categories[between(rng, 0, len(self._catalogue.categories) - 1)]
        pace_ms = between(rng, 250, 1_500)
        target = category.items[between(rng, 0, len(category.items) - 1)]  # a seller pushes it, or a rival drains its budget
        for number in range(between(rng, 80, 200)):
            item = target if number % 3 else category.items[number % len(category.items)]
            visit.act("click", item, "search", position=number % 12, dwell_ms=pace_ms / 2)
            visit.pause(pace_ms / 2 + between(rng, -4, 4))
        return [visit]

    # --- parts of rings ----------------------------------------------------------------------------------------------

    def _enter(
        self, kind: str, shopper: Shopper, now_ms: int, devices: Sequence[str], ips: Sequence[str], intent: Intent = "buy"
    ) -> Visit:
        rng = self._rng
        return Visit(
            numbers=self._numbers,
            shopper=shopper,
            now_ms=now_ms,
            device=devices[between(rng, 0, len(devices) - 1)],
            ip=ips[between(rng, 0, len(ips) - 1)],
            platform=shopper.platform if kind == "refund_abuse" else "web",
            intent=intent,
            fraud_kind=kind,
        )

    def _device(self) -> str:
        self._devices += 1
        return f"d8{self._devices:08d}"

    def _ip(self) -> str:
        return foreign_ip(skewed_index(self._rng, 60_000, 1.0))

    def _country(self) -> str:
        return COUNTRIES[between(self._rng, 0, len(COUNTRIES) - 1)]

    def _dear_item(self) -> Item:
        return self._dear[between(self._rng, 0, len(self._dear) - 1)]

    def _stolen_card(self, instrument: str, address: str) -> Payment:
        return Payment(instrument, address, self._country(), self._country(), self._country())

    def _own_card(self, shopper: Shopper, instrument: str, address: str) -> Payment:
        return Payment(instrument, address, shopper.country, shopper.country, shopper.country)
