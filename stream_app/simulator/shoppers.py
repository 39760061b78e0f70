"""Shoppers: tastes, price level, devices, addresses and payment instruments.

A shopper is a function of the seed and the index, made when first needed, so that millions of them cost nothing until they come.
Two neighbours share a household: its address, its line (IP) and its tablet. One household in eight sits behind a carrier's
NAT with many others, so that a shared IP alone is no sign of fraud.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stream_app.events import Platform
from stream_app.simulator.draws import between, cumulative, pick, seeded, skewed_index

COUNTRIES: Final = ("DE", "FR", "GB", "US", "CN", "PL", "IT", "NL")
_CURRENCY: Final = {"GB": "GBP", "US": "USD", "CN": "CNY", "PL": "PLN"}
_COUNTRY_SHARES: Final = cumulative((30, 15, 12, 15, 8, 8, 7, 5))
_PLATFORMS: Final[tuple[Platform, ...]] = ("ios", "android", "web", "mini_program")
_PLATFORM_SHARES: Final = cumulative((28, 34, 28, 10))
_HOUSEHOLD: Final = 2
_NAT_EVERY: Final = 8  # one household in so many shares its IP with a whole district
_NAT_POOL: Final = 64


@dataclass(frozen=True, slots=True)
class Shopper:
    """One shopper. `price_level` in [0, 1): whether they buy the cheap or the dear; `keenness` in (0, 1): how often they buy."""

    index: int
    id: str
    country: str
    categories: tuple[int, ...]  # favourites, best first
    price_level: float
    keenness: float
    platform: Platform
    devices: tuple[str, ...]
    home_ip: str
    mobile_ip: str
    instruments: tuple[str, ...]
    address: str


def home_currency(country: str) -> str:
    """Return the currency that a country's shoppers pay in."""
    return _CURRENCY.get(country, "EUR")


def foreign_ip(number: int) -> str:
    """Return an address outside of all shoppers' homes (a proxy, a hotel), the same for the same number."""
    return f"185.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


class Population:
    """All shoppers, and those with earlier visits."""

    def __init__(self, seed: int, users: int, categories: int) -> None:
        self._seed = seed
        self._users = users
        self._categories = categories
        self._known: dict[int, Shopper] = {}
        self._visits: dict[int, int] = {}
        self._rng = seeded(seed, "visitors")
        self._fresh = users
        self._regulars: list[int] = []

    def visitor(self) -> Shopper:
        """Draw the next visitor: a regular user, or in 2 % of the draws a new one."""
        if self._rng.random() < 0.02:  # so that a new account alone is no sign of fraud
            return self.newcomer()
        index = skewed_index(self._rng, self._users)
        visits = self._visits.get(index, 0) + 1
        self._visits[index] = visits
        if visits == 2:  # from the second visit on there is a history
            self._regulars.append(index)
        return self.shopper(index)

    def newcomer(self) -> Shopper:
        """Return a new shopper."""
        self._fresh += 1
        return self.shopper(self._fresh - 1)

    def regular(self) -> Shopper | None:
        """Draw a shopper with at least two visits behind them; None while there is none."""
        if not self._regulars:
            return None
        return self.shopper(self._regulars[between(self._rng, 0, len(self._regulars) - 1)])

    def shopper(self, index: int) -> Shopper:
        """Return the shopper of this index."""
        shopper = self._known.get(index)
        if shopper is None:
            shopper = self._known[index] = self._make(index)
        return shopper

    def _make(self, index: int) -> Shopper:
        rng = seeded(self._seed, f"shopper:{index}")
        household = index // _HOUSEHOLD
        # Neighbours live in one country: what a household shares follows from its number alone.
        home = seeded(self._seed, f"household:{household}")
        country = COUNTRIES[pick(home, _COUNTRY_SHARES)]
        devices = [f"d{index * 3}"]
        if rng.random() < 0.5:
            devices.append(f"d{index * 3 + 1}")
        if rng.random() < 0.25:
            devices.append(f"d{household * _HOUSEHOLD * 3 + 2}")  # the household's tablet
        favourites = {skewed_index(rng, self._categories, 1.2) for _ in range(between(rng, 2, 5))}
        return Shopper(
            index=index,
            id=f"u{index}",
            country=country,
            categories=tuple(sorted(favourites, key=lambda c: (c * 2_654_435_761 + index) % 1_000_003)),
            price_level=rng.random(),
            keenness=0.08 + 0.4 * rng.random() ** 2,
            platform=_PLATFORMS[pick(rng, _PLATFORM_SHARES)],
            devices=tuple(devices),
            home_ip=_home_ip(household),
            mobile_ip=f"100.{64 + index % 64}.{index // 64 % 256}.{between(rng, 1, 254)}",
            instruments=tuple(f"p{index * 2 + n}" for n in range(between(rng, 1, 2))),
            address=f"a{household}",
        )


def _home_ip(household: int) -> str:
    if household % _NAT_EVERY == 0:
        return f"10.200.0.{household // _NAT_EVERY % _NAT_POOL}"
    return f"{20 + (household >> 16) % 60}.{household >> 16 & 255}.{household >> 8 & 255}.{household & 255}"
