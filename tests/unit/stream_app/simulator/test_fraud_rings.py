from __future__ import annotations

from itertools import pairwise
from statistics import mean, pstdev

from stream_app.events import Click, Order
from stream_app.simulator.catalogue import ItemCatalogue
from stream_app.simulator.fraud import FRAUD_KINDS, Rings
from stream_app.simulator.sessions import Sessions
from stream_app.simulator.shoppers import Population
from stream_app.simulator.visit import SimulatedAction, VisitNumbers

NOW_MS = 1_800_000_000_000


class Shop:
    def __init__(self, *, sessions: int = 3_000) -> None:
        catalogue = ItemCatalogue(7, 600)
        self.population = Population(7, 300, len(catalogue.categories))
        numbers = VisitNumbers("x")
        honest = Sessions(7, catalogue, self.population, numbers)
        self.rings = Rings(7, catalogue, self.population, numbers)
        self.past = [h for n in range(sessions) for h in honest.next_session(NOW_MS - 10**9 + n * 1_000)]

    def ring(self, kind: str) -> list[SimulatedAction]:
        return self.rings.ring(kind, NOW_MS)


def test_every_event_of_a_ring_bears_its_kind_and_none_of_an_honest_session_any() -> None:
    shop = Shop()
    for kind in FRAUD_KINDS:
        assert {action.fraud_kind for action in shop.ring(kind)} == {kind}
    assert {action.fraud_kind for action in shop.past} == {""}


def test_card_testing_is_many_cards_on_few_devices_with_small_amounts() -> None:
    shop = Shop()
    orders = [h.event for h in shop.ring("card_testing") if isinstance(h.event, Order)]
    honest = [h.event.amount for h in shop.past if isinstance(h.event, Order)]
    assert len({order.payment_instrument for order in orders}) == len(orders) >= 20
    assert len({order.device for order in orders}) <= 3
    assert mean(order.amount for order in orders) < mean(honest) / 5


def test_a_taken_over_account_has_a_past_and_now_another_device_address_and_bigger_amounts() -> None:
    shop = Shop()
    ring = shop.ring("account_takeover")
    [user] = {action.event.user for action in ring}
    past = [action.event for action in shop.past if action.event.user == user]
    assert len({event.session for event in past}) >= 2
    assert not {event.device for event in past} & {action.event.device for action in ring}
    orders = [h.event for h in ring if isinstance(h.event, Order)]
    before = [event for event in past if isinstance(event, Order)]
    assert len(orders) >= 2
    assert not {o.shipping_address for o in orders} & {o.shipping_address for o in before}
    assert mean(o.amount for o in orders) > mean(h.event.amount for h in shop.past if isinstance(h.event, Order))


def test_nobody_is_taken_over_before_there_is_a_regular() -> None:
    assert {h.fraud_kind for h in Shop(sessions=0).ring("account_takeover")} == {"card_testing"}


def test_a_device_farm_is_many_fresh_accounts_on_one_device_and_address() -> None:
    shop = Shop()
    ring = shop.ring("device_farm")
    users = {action.event.user for action in ring}
    assert len(users) >= 15
    assert not users & {action.event.user for action in shop.past}
    assert len({action.event.device for action in ring}) == 1
    assert len({h.event.shipping_address for h in ring if isinstance(h.event, Order)}) == 1


def test_refund_abuse_goes_to_the_service_pages_after_each_order() -> None:
    ring = sorted(Shop().ring("refund_abuse"), key=lambda action: action.time_ms)
    orders = [h for h in ring if isinstance(h.event, Order)]
    assert len(orders) >= 4
    for order in orders:
        after = [h for h in ring if h.time_ms > order.time_ms]
        assert any(isinstance(h.event, Click) and h.event.scene == "service" for h in after)


def test_a_bot_clicks_like_a_machine_and_people_do_not() -> None:
    shop = Shop()

    def unevenness(actions: list[SimulatedAction]) -> float:
        gaps = [after.time_ms - before.time_ms for before, after in pairwise(actions)]
        return pstdev(gaps) / mean(gaps)

    assert unevenness(shop.ring("bot_clicking")) < 0.05
    session = max({h.event.session for h in shop.past}, key=lambda s: sum(h.event.session == s for h in shop.past[:2_000]))
    assert unevenness([h for h in shop.past if h.event.session == session]) > 0.3
