"""Labels: small sessions whose meaning a person can tell."""

from __future__ import annotations

from typing import Any

from stream_app.evaluation.session_labels import BUY_WITHIN_MS, UNKNOWN, SessionLabel, Step, next_kind, session_labels, step_of
from stream_app.events import INTENTS, KINDS, NEXT_ACTIONS, SCENES, Click, Order, OrderLine, Search

SECOND_MS = 1_000


def step(second: int, kind: str, *items: int, scene: str = "detail") -> Step:
    return Step(second * SECOND_MS, KINDS.index(kind), SCENES.index(scene), items)


def intents(labels: list[SessionLabel]) -> list[str]:
    return [INTENTS[label.intent] for label in labels]


def label(*steps: Step, bot: bool = False) -> list[SessionLabel]:
    return session_labels(steps, bot=bot)


def test_everything_up_to_an_order_and_the_order_itself_is_buying_and_what_follows_is_not() -> None:
    labels = label(step(0, "search"), step(9, "view", 1), step(20, "cart", 1), step(60, "order", 1), step(70, "view", 2))
    assert intents(labels) == ["buy", "buy", "buy", "buy", "look"]


def test_an_order_more_than_half_an_hour_away_is_not_yet_in_sight() -> None:
    late = BUY_WITHIN_MS // SECOND_MS
    labels = label(step(0, "view", 1), step(1, "view", 2), step(late + 1, "order", 1))
    assert intents(labels) == ["look", "buy", "buy"]


def test_the_service_pages_ahead_mean_a_return_unless_an_order_comes() -> None:
    service = step(5, "view", 1, scene="service")
    assert intents(label(step(0, "search"), service, step(9, "view", 1))) == ["return", "return", "look"]
    assert intents(label(step(0, "search"), service, step(9, "order", 1))) == ["buy", "buy", "buy"]


def test_bots_single_events_and_watchers_are_others() -> None:
    assert intents(label(step(0, "click", 1), step(1, "click", 2), bot=True)) == ["other", "other"]
    assert intents(label(step(0, "view", 1))) == ["other"]
    live = [step(n, "view", n, scene="live") for n in range(3)]
    assert intents(label(*live)) == ["other"] * 3
    assert intents(label(*live, step(9, "favourite", 2, scene="live"))) == ["look"] * 4


def test_the_next_action_is_the_next_events_kind_and_then_leave() -> None:
    labels = label(step(0, "search"), step(1, "view", 1), step(2, "cart", 1), step(3, "order", 1))
    assert [NEXT_ACTIONS[found.next_action] for found in labels] == ["view", "cart", "order", "leave"]


def test_only_views_have_a_click_label_and_it_looks_for_the_same_item_later() -> None:
    labels = label(
        step(0, "view", 1), step(1, "click", 1), step(2, "view", 2), step(3, "view", 3), step(4, "cart", 3), step(5, "view", 1)
    )
    assert [found.click for found in labels] == [1, UNKNOWN, 0, 1, UNKNOWN, 0]


def test_every_line_of_an_order_counts_as_taken() -> None:
    labels = label(step(0, "view", 4), step(1, "view", 5), step(2, "order", 5, 4))
    assert [found.click for found in labels] == [1, 1, UNKNOWN]


def test_a_view_converts_if_its_item_is_ordered_later_and_whatever_converts_was_clicked() -> None:
    labels = label(step(0, "view", 1), step(1, "view", 2), step(2, "click", 2), step(3, "order", 1), step(4, "view", 1))
    assert [found.conversion for found in labels] == [1, 0, UNKNOWN, UNKNOWN, 0]
    assert [found.click for found in labels] == [1, 1, UNKNOWN, UNKNOWN, 0]


def test_an_event_is_a_step_with_the_numbers_of_all_its_items() -> None:
    base: dict[str, Any] = {"event_id": "e", "user": "u", "event_time_ms": 5}
    lines = [OrderLine(item="b"), OrderLine(item="a")]
    steps = [
        step_of(event, {"a": 0, "b": 1})
        for event in (
            Search(query="q", scene="search", **base),
            Click(action="cart", item="b", scene="live", **base),
            Order(lines=lines, amount=1.0, currency="EUR", scene="checkout", **base),
        )
    ]
    assert [(KINDS[s.kind], SCENES[s.scene], s.items) for s in steps] == [
        ("search", "search", ()),
        ("cart", "live", (1,)),
        ("order", "checkout", (1, 0)),
    ]
    assert [NEXT_ACTIONS[next_kind(s)] for s in steps] == ["search", "cart", "order"]


def test_the_next_item_is_the_first_other_one_that_is_taken_later() -> None:
    labels = label(step(0, "search"), step(1, "view", 1), step(2, "click", 1), step(3, "view", 2), step(4, "cart", 2))
    assert [found.next_item for found in labels] == [1, 2, 2, UNKNOWN, UNKNOWN]


def test_a_label_depends_on_nothing_before_the_event_but_whether_the_session_is_passive() -> None:
    steps = [step(0, "search"), step(1, "click", 1), step(2, "view", 2), step(3, "click", 2), step(4, "order", 2)]
    for start in range(len(steps) - 1):
        assert label(*steps[start:]) == label(*steps)[start:]
