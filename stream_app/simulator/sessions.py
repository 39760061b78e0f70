"""How honest shoppers behave: they buy, look around, come back with a parcel, or do something else.

The intent is drawn first and shows in what follows: buyers search narrowly, stay longer, put things in the cart and pay; lookers
wander; returners go to the service pages; the others watch a live show or a campaign. Some honest behaviour looks odd on
purpose (a new phone, a hotel's network abroad, a gift to another address, a big basket), so that no single sign means fraud.
"""

from __future__ import annotations

from typing import Final

from stream_app.events import Intent, Scene
from stream_app.simulator.catalogue import Category, Item, ItemCatalogue
from stream_app.simulator.draws import between, cumulative, pick, seeded, skewed_index, spread
from stream_app.simulator.options import DAY_MS
from stream_app.simulator.shoppers import COUNTRIES, Population, Shopper, foreign_ip
from stream_app.simulator.visit import Payment, Visit, VisitNumbers
from stream_app.simulator.words import CHORES

MEAN_EVENTS: Final = 9.5  # events of a session, measured over 50,000; a test keeps the rate it gives within 10 %

_LOOK_SCENES: Final[tuple[Scene, ...]] = ("home", "search", "recommend", "campaign")
_LOOK_SHARES: Final = cumulative((30, 40, 20, 10))
_BUY_SHARES: Final = cumulative((15, 70, 10, 5))
_OTHER_SCENES: Final[tuple[Scene, ...]] = ("live", "campaign", "home", "other")
_GAP_MS: Final = 6_000.0  # between two steps of a person who reads


class Sessions:
    """Writes honest sessions."""

    def __init__(self, seed: int, catalogue: ItemCatalogue, population: Population, numbers: VisitNumbers) -> None:
        self._rng = seeded(seed, "sessions")
        self._catalogue = catalogue
        self._population = population
        self._numbers = numbers
        self._bought: dict[int, Item] = {}  # each shopper's last purchase, the one that is returned
        self._odd_devices = 0

    def next_session(self, start_ms: int) -> Visit:
        """Return one shopper's whole session that begins at `start_ms`."""
        shopper = self._population.visitor()
        intent = self._intent(shopper)
        visit = self._enter(shopper, start_ms, intent)
        if intent == "return":
            self._return(visit)
        elif intent == "other":
            self._idle(visit)
        else:
            self._shop(visit)
        return visit

    def payment(self, shopper: Shopper, *, ip_country: str = "") -> Payment:
        """Return the shopper's usual payment; one in twenty-five sends a gift to another address."""
        rng = self._rng
        gift = rng.random() < 0.04
        instrument = shopper.instruments[0 if rng.random() < 0.85 else -1]
        address = f"a{skewed_index(rng, 1_000_000, 1.0)}" if gift else shopper.address
        return Payment(instrument, address, shopper.country, shopper.country, ip_country or shopper.country)

    def _intent(self, shopper: Shopper) -> Intent:
        draw = self._rng.random()
        if draw < (0.14 if shopper.index in self._bought else 0.03):
            return "return"
        if draw < 0.22:
            return "other"
        return "buy" if self._rng.random() < shopper.keenness else "look"

    def _enter(self, shopper: Shopper, start_ms: int, intent: Intent) -> Visit:
        rng = self._rng
        number = skewed_index(rng, len(shopper.devices), 2.0)
        device, ip = shopper.devices[number], shopper.home_ip
        draw = rng.random()
        if draw < 0.25:
            ip = shopper.mobile_ip
        elif draw < 0.27:
            ip = foreign_ip(skewed_index(rng, 60_000, 1.0))  # on a journey
        if rng.random() < 0.01:
            self._odd_devices += 1
            device = f"d9{self._odd_devices:09d}"  # a new phone, a friend's computer
        return Visit(
            numbers=self._numbers,
            shopper=shopper,
            now_ms=start_ms,
            device=device,
            ip=ip,
            platform=shopper.platform if number == 0 else "web",
            intent=intent,
        )

    # --- buying and looking -------------------------------------------------------------------------------------------

    def _shop(self, visit: Visit) -> None:
        rng, buying = self._rng, visit.intent == "buy"
        category = self._category(visit.shopper)
        basket: list[tuple[Item, int]] = []
        rounds = between(rng, 1, 3) if buying else between(rng, 1, 4)
        for _ in range(rounds):
            scene = _LOOK_SCENES[pick(rng, _BUY_SHARES if buying else _LOOK_SHARES)]
            item = self._find(visit, category, scene)
            self._consider(visit, item, basket)
            if rng.random() < (0.25 if buying else 0.6):
                category = self._category(visit.shopper)  # lookers wander
        if buying and basket:
            self._check_out(visit, basket)

    def _category(self, shopper: Shopper) -> Category:
        categories = self._catalogue.categories
        if self._rng.random() < 0.8:
            return categories[shopper.categories[skewed_index(self._rng, len(shopper.categories), 1.8)]]
        return categories[skewed_index(self._rng, len(categories), 1.3)]

    def _find(self, visit: Visit, category: Category, scene: Scene) -> Item:
        """Show a page in `scene`, and click on one of its items."""
        rng = self._rng
        page = between(rng, 0, len(category.pages) - 1)
        if scene == "search":
            items = visit.browse_page(category, page, self._query(category, page, narrow=visit.intent == "buy"))
        else:
            items = category.pages[page]
            first = self._catalogue.trending(visit.now_ms // DAY_MS, rng) if rng.random() < 0.3 else items[0]
            visit.act("view", first, scene, position=0, dwell_ms=spread(rng, 1_800, 3))
        visit.pause(spread(rng, _GAP_MS, 3))
        # Of two places, mostly near the top, they take the one whose price suits them.
        places = (skewed_index(rng, len(items), 2.0), skewed_index(rng, len(items), 2.0))
        level = visit.shopper.price_level
        place = min(places, key=lambda n: abs(items[n].price_rank - level))
        visit.act("click", items[place], scene, position=place)
        return items[place]

    def _query(self, category: Category, page: int, *, narrow: bool) -> str:
        words = category.pages[page][0].title.split(" ", 2)  # brand, quality, goods
        draw = self._rng.random()
        if draw < (0.2 if narrow else 0.6):
            return category.goods
        if draw < 0.65:
            return f"{words[1]} {category.goods}"
        return f"{words[0]} {category.goods}".lower()

    def _consider(self, visit: Visit, item: Item, basket: list[tuple[Item, int]]) -> None:
        """Read the item's page; perhaps keep it, perhaps put it into the cart."""
        rng, buying = self._rng, visit.intent == "buy"
        suits = 1.0 - abs(item.price_rank - visit.shopper.price_level)
        visit.pause(spread(rng, 900, 2))
        visit.act("view", item, "detail", dwell_ms=spread(rng, (24_000 if buying else 11_000) * (0.5 + suits), 4))
        while rng.random() < (0.45 if buying else 0.3):  # pictures, reviews, sizes
            visit.pause(spread(rng, 3_000, 3))
            visit.act("click", item, "detail", position=between(rng, 0, 4))
        if rng.random() < 0.06 + 0.06 * suits:
            visit.pause(spread(rng, 1_500, 2))
            visit.act("favourite", item, "detail")
        if rng.random() < (0.45 + 0.5 * suits if buying else 0.07 * suits):
            visit.pause(spread(rng, 2_500, 2))
            visit.act("cart", item, "detail")
            basket.append((item, 1 if rng.random() < 0.85 else between(rng, 2, 4)))
        visit.pause(spread(rng, _GAP_MS, 3))

    def _check_out(self, visit: Visit, basket: list[tuple[Item, int]]) -> None:
        rng = self._rng
        for item, _ in basket[:2]:
            visit.act("view", item, "cart", dwell_ms=spread(rng, 5_000, 3))
        visit.pause(spread(rng, 25_000, 3))  # address and payment
        abroad = COUNTRIES[between(rng, 0, len(COUNTRIES) - 1)] if visit.ip.startswith("185.") else ""
        value = sum(item.price * quantity for item, quantity in basket)
        fee = 0.0 if value >= 50 else 4.9
        visit.order(basket, self.payment(visit.shopper, ip_country=abroad), fee=fee)
        self._bought[visit.shopper.index] = basket[0][0]
        if rng.random() < 0.3:
            visit.pause(spread(rng, 4_000, 2))
            visit.act("view", basket[0][0], "recommend", dwell_ms=spread(rng, 2_000, 3))

    # --- parcels and other visits -------------------------------------------------------------------------------------

    def _return(self, visit: Visit) -> None:
        rng = self._rng
        index = visit.shopper.index
        # Whoever bought before the simulation began brings back something of their taste.
        item = self._bought.get(index) or self._category(visit.shopper).items[0]
        if rng.random() < 0.4:
            visit.search(CHORES[between(rng, 0, len(CHORES) - 1)], [])
            visit.pause(spread(rng, _GAP_MS, 3))
        for _ in range(between(rng, 2, 6)):
            visit.act("view", item, "service", dwell_ms=spread(rng, 14_000, 4))
            visit.pause(spread(rng, 4_000, 3))
            if rng.random() < 0.6:
                visit.act("click", item, "service", position=between(rng, 0, 3))
                visit.pause(spread(rng, 8_000, 3))
        if rng.random() < 0.5:
            self._bought.pop(index, None)

    def _idle(self, visit: Visit) -> None:
        rng = self._rng
        scene = _OTHER_SCENES[pick(rng, (45.0, 75.0, 85.0, 100.0))]
        for _ in range(between(rng, 2, 14)):
            item = self._catalogue.trending(visit.now_ms // DAY_MS, rng)
            visit.act("view", item, scene, position=between(rng, 0, 20), dwell_ms=spread(rng, 9_000, 5))
            visit.pause(spread(rng, 2_000, 3))
            if rng.random() < 0.2:
                visit.act("click", item, scene, position=between(rng, 0, 20))
                visit.pause(spread(rng, 2_000, 3))
