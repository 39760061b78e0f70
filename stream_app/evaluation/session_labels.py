"""Labels of events derived from the rest of their session. The only definition of these labels.

A label depends on later events, so a session that may still continue has none: `UNKNOWN`, which no loss counts. Labels of the
positive outcomes alone would bias a model towards them. Fraud is not here; its labels come from the topic `labels`.

    intent       buy     the session holds an order at or after the event, at most `BUY_WITHIN_MS` later
                 return  else: a visit to the service pages at or after the event
                 other   else: a bot, a session of one event, or a session without search, item page, favourite,
                         cart or order
                 look    else
    next_action  kind of the session's next event, or `leave` after the last one
    click        for a view: whether its item is clicked, put in the cart, kept or ordered later in the session
    conversion   for a view: whether its item is ordered later in the session; an item that is ordered counts as clicked too
    next_item    the first other item that is clicked, put in the cart, kept or ordered later in the session
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Final, NamedTuple

from stream_app.events import INTENTS, KINDS, NEXT_ACTIONS, SCENES, Click, Event, Order

BUY_WITHIN_MS: Final = 30 * 60_000  # half an hour: the usual length after which web analytics calls a session over

UNKNOWN: Final = -1  # no label

_VIEW, _SEARCH, _ORDER = KINDS.index("view"), KINDS.index("search"), KINDS.index("order")
_ENGAGED: Final = frozenset(KINDS.index(kind) for kind in ("click", "cart", "favourite", "order"))
_KEPT: Final = frozenset(KINDS.index(kind) for kind in ("cart", "favourite", "order"))
_SERVICE, _DETAIL = SCENES.index("service"), SCENES.index("detail")
_BUY, _LOOK, _RETURN, _OTHER = (INTENTS.index(intent) for intent in ("buy", "look", "return", "other"))
_KIND_CODES: Final = {kind: code for code, kind in enumerate(KINDS)}
_SCENE_CODES: Final = {scene: code for code, scene in enumerate(SCENES)}
_LEAVE: Final = NEXT_ACTIONS.index("leave")
_NEXT_OF_KIND: Final = tuple(NEXT_ACTIONS.index(kind) for kind in KINDS)


class Step(NamedTuple):
    """One event of a session, reduced to what labels depend on. Kind and scene are codes of `stream_app.events`."""

    time_ms: int
    kind: int
    scene: int
    items: tuple[int, ...]  # the items it touches, by number; an order has several, a search none


class SessionLabel(NamedTuple):
    """Labels of one event: codes of INTENTS and NEXT_ACTIONS, 0 or 1, an item's number; UNKNOWN where there is none."""

    intent: int = UNKNOWN
    next_action: int = UNKNOWN
    click: int = UNKNOWN
    next_item: int = UNKNOWN
    conversion: int = UNKNOWN


def step_of(event: Event, item_numbers: Mapping[str, int]) -> Step:
    """Return the step of an event; `item_numbers` has every item that it touches."""
    scene = _SCENE_CODES[event.scene]
    if isinstance(event, Click):
        return Step(event.event_time_ms, _KIND_CODES[event.action], scene, (item_numbers[event.item],))
    if isinstance(event, Order):
        items = tuple(item_numbers[line.item] for line in event.lines)
        return Step(event.event_time_ms, _KIND_CODES["order"], scene, items)
    return Step(event.event_time_ms, _KIND_CODES["search"], scene, ())


def next_kind(next_step: Step) -> int:
    """Return the label `next_action` of the event before `next_step`."""
    return _NEXT_OF_KIND[next_step.kind]


def session_labels(steps: Sequence[Step], *, bot: bool) -> list[SessionLabel]:
    """Return one label for each step of a session that is over, ascending in time; `bot`: it is known to be a machine's."""
    passive = bot or len(steps) == 1 or not any(_decides(step) for step in steps)
    labels: list[SessionLabel] = []
    order_ms, service = -1, False
    engaged: list[int] = []  # items touched later, nearest first
    ordered: set[int] = set()
    for place in range(len(steps) - 1, -1, -1):
        step = steps[place]
        last = place == len(steps) - 1
        if step.kind == _ORDER:
            order_ms = step.time_ms
        service = service or step.scene == _SERVICE
        intent = _intent(step, order_ms, service=service, passive=passive)
        next_action = _LEAVE if last else next_kind(steps[place + 1])
        taken = (_whether(step, engaged), _next_item(step, engaged), _whether(step, ordered))
        labels.append(SessionLabel(intent, next_action, *taken))
        if step.kind in _ENGAGED:
            engaged = [*step.items, *(item for item in engaged if item not in step.items)]
        if step.kind == _ORDER:
            ordered.update(step.items)
    labels.reverse()
    return labels


def _decides(step: Step) -> bool:
    return step.kind == _SEARCH or step.kind in _KEPT or step.scene == _DETAIL


def _intent(step: Step, order_ms: int, *, service: bool, passive: bool) -> int:
    if order_ms >= 0 and order_ms - step.time_ms <= BUY_WITHIN_MS:
        return _BUY
    if service:
        return _RETURN
    return _OTHER if passive else _LOOK


def _whether(step: Step, taken: Container[int]) -> int:
    return int(step.items[0] in taken) if step.kind == _VIEW else UNKNOWN


def _next_item(step: Step, engaged: list[int]) -> int:
    return next((item for item in engaged if item not in step.items), UNKNOWN)
