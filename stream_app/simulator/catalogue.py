"""The shop's catalogue: items with a category, a price, a title, and the pages a search or a feed shows.

Category ids are hierarchical: `c1203` is kind 03 of department `c12` (the last two digits are the kind). An item's place in its
category is its popularity rank there, so popularity is a Zipf law without any table of weights.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, NamedTuple

from stream_app.simulator.draws import between, seeded, skewed_index, spread
from stream_app.simulator.words import BRANDS, DEPARTMENTS, QUALITIES

_PAGES: Final = 12  # result pages made ahead for each category: drawing one anew for each search would cost 10 us
_PAGE_ITEMS: Final = 12
_TRENDING: Final = 40  # items that are in fashion on a given day


class Item(NamedTuple):
    """One thing to buy. `price_rank` is its place among the prices of its category, in [0, 1)."""

    id: str
    category: str
    price: float
    price_rank: float
    title: str


@dataclass(frozen=True, slots=True)
class Category:
    """One kind of goods, its items by popularity, and pages of results (each at most 12 items)."""

    id: str
    goods: str
    items: tuple[Item, ...]
    pages: tuple[tuple[Item, ...], ...]
    page_ids: tuple[list[str], ...]  # the items' ids of each page, as a search shows them


class ItemCatalogue:
    """All items, the same for the same seed and size."""

    def __init__(self, seed: int, items: int) -> None:
        rng = seeded(seed, "catalogue")
        kinds = [(number, kind) for number in range(len(DEPARTMENTS)) for kind in range(len(DEPARTMENTS[number].goods))]
        # Small catalogues have fewer categories: each keeps at least ten items.
        self._kinds = kinds[: max(1, min(len(kinds), items // 10))]
        self.items: tuple[Item, ...] = ()
        self.categories = self._build(rng, items)

    def trending(self, day: int, rng: random.Random) -> Item:
        """Draw one of the items in fashion on `day` (days since 1970)."""
        place = day * 7_919 + skewed_index(rng, _TRENDING) * 104_729  # two primes: another set each day
        return self.items[place % len(self.items)]

    def _build(self, rng: random.Random, count: int) -> tuple[Category, ...]:
        by_kind: list[list[int]] = [[] for _ in self._kinds]
        for number in range(count):
            by_kind[number % len(self._kinds)].append(number)
        categories = tuple(_category(rng, kind, numbers) for kind, numbers in zip(self._kinds, by_kind, strict=True))
        self.items = tuple(sorted((i for c in categories for i in c.items), key=lambda item: int(item.id[1:])))
        return categories


def _category(rng: random.Random, kind: tuple[int, int], numbers: list[int]) -> Category:
    department = DEPARTMENTS[kind[0]]
    goods = department.goods[kind[1]]
    category = f"c{kind[0] + 1}{kind[1] + 1:02d}"
    typical = spread(rng, department.typical_price, 3.0)
    prices = [max(0.5, round(spread(rng, typical, 2.5), 2)) for _ in numbers]
    rank_of = {place: rank for rank, place in enumerate(sorted(range(len(prices)), key=prices.__getitem__))}
    items = tuple(
        Item(f"i{number}", category, prices[place], rank_of[place] / len(prices), _title(rng, goods))
        for place, number in enumerate(numbers)
    )
    pages = tuple(_page(rng, items) for _ in range(_PAGES))
    return Category(category, goods, items, pages, tuple([item.id for item in page] for page in pages))


def _title(rng: random.Random, goods: str) -> str:
    brand = BRANDS[skewed_index(rng, len(BRANDS))]
    return f"{brand} {QUALITIES[between(rng, 0, len(QUALITIES) - 1)]} {goods}"


def _page(rng: random.Random, items: tuple[Item, ...]) -> tuple[Item, ...]:
    size = min(_PAGE_ITEMS, len(items))
    chosen: dict[str, Item] = {}
    while len(chosen) < size:
        item = items[skewed_index(rng, len(items), 2.2)]
        chosen[item.id] = item
    return tuple(chosen.values())
