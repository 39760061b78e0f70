"""One example of each topic's payload: events of one user and their answers, for the documents and for tests.

An example is a value of the type itself, so it cannot differ from the type.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from stream_app.events import (
    AlertEntities,
    Candidate,
    Click,
    DeadLetter,
    FeatureRow,
    FraudAlert,
    IntentLabel,
    JournalLine,
    Label,
    LateEvent,
    Order,
    OrderLine,
    Reason,
    RecommendationCandidates,
    Search,
    Source,
)

_AT_MS: Final = 1_748_736_000_000  # 2025-06-01 00:00 UTC
_WHO: Final[dict[str, Any]] = {
    "user": "u-1042",
    "session": "s-77",
    "device": "d-9f31",
    "ip": "203.0.113.7",
    "platform": "ios",
}
_VERSIONS: Final[dict[str, Any]] = {"model_version": "demo-0a1b2c3d4e5f", "features_version": "6d5c4b3a2f10"}
_ORDER: Final = Order(
    event_id="o-31",
    event_time_ms=_AT_MS + 90_000,
    scene="checkout",
    lines=[OrderLine(item="i-7", category="c-shoes", quantity=1, unit_price=59.9)],
    amount=59.9,
    currency="EUR",
    payment_instrument="card-5f2e",
    shipping_address="a-88",
    billing_country="DE",
    shipping_country="DE",
    ip_country="DE",
    **_WHO,
)
_ANSWER: Final[dict[str, Any]] = {
    "event_id": _ORDER.event_id,
    "user": _ORDER.user,
    "source": Source("orders", 3, 1205),
    "event_time_ms": _ORDER.event_time_ms,
    "ingest_time_ms": _ORDER.event_time_ms + 40,
    "scored_time_ms": _ORDER.event_time_ms + 52,
    **_VERSIONS,
}
_LATE: Final = Click(
    event_id="k-1",
    event_time_ms=_AT_MS - 90_000_000,
    scene="home",
    action="view",
    item="i-7",
    category="c-shoes",
    **_WHO,
)

EXAMPLES: Final[dict[str, msgspec.Struct]] = {
    "searches": Search(
        event_id="q-5", event_time_ms=_AT_MS, scene="search", query="trail shoes", items_shown=["i-7", "i-12"], **_WHO
    ),
    "clicks": Click(
        event_id="k-9",
        event_time_ms=_AT_MS + 4_000,
        scene="detail",
        action="cart",
        item="i-7",
        category="c-shoes",
        price=59.9,
        position=1,
        dwell_ms=21_500,
        **_WHO,
    ),
    "orders": _ORDER,
    "fraud-alerts": FraudAlert(
        answer_id="orders-3-1205",
        probability=0.93,
        threshold=0.8,
        rules=[],
        reasons=[Reason("device_orders_1d", 14.0, 0.0), Reason("user_orders_1h", 9.0, 0.0)],
        amount=_ORDER.amount,
        currency=_ORDER.currency,
        entities=AlertEntities(
            form="digest",
            session="17bde15cefbf15e514af0377cc033592",
            device="b84e1d415dec24ea7b4c7e64e4d7f174",
            ip="13899937b1f669b1db1b85239abcb9e8",
            payment_instrument="65262bf05c62a715ab78cb69e98863af",
            shipping_address="6e7f988653205ebdde438639bae53460",
        ),
        **_ANSWER,
    ),
    "intent-labels": IntentLabel(
        answer_id="orders-3-1205",
        intent="buy",
        probabilities={"buy": 0.81, "look": 0.12, "return": 0.02, "other": 0.05},
        next_action="leave",
        click_probability=0.07,
        fraud_probability=0.93,
        fraud_alert=True,
        **_ANSWER,
    ),
    "recommendation-candidates": RecommendationCandidates(
        answer_id="orders-3-1205",
        items=[Candidate("i-12", 0.44, "model"), Candidate("i-90", 0.31, "model")],
        **_ANSWER,
    ),
    "dead-letters": DeadLetter(
        answer_id="clicks-0-88",
        reason="price: Expected `float` >= 0.0, got -1.0",
        place="decode",
        source=Source("clicks", 0, 88),
        ingest_time_ms=_AT_MS + 41,
        key=b"u-1042",
        value=b'{"event_id":"k-2","price":-1.0}',
        headers=[("trace", b"4bf9")],
    ),
    "late-events": LateEvent(
        answer_id="clicks-3-89",
        source=Source("clicks", 3, 89),
        late_by_ms=90_090_000,
        allowed_lateness_ms=86_400_000,
        event=msgspec.Raw(msgspec.json.encode(_LATE)),
    ),
    "labels": Label(
        event_id=_ORDER.event_id,
        user=_ORDER.user,
        label_time_ms=_AT_MS + 2_592_000_000,
        task="fraud",
        value=1.0,
        kind="card_testing",
        source="chargeback",
    ),
    "journal": JournalLine(
        group=3,
        commit=4711,
        epoch="17:worker-1-4711:9f86d081884c7d65",
        ranges={"searches": (880, 902), "clicks": (80, 90), "orders": (1204, 1206)},
        reads={"3": 4710, "5": 901},
        scored_time_ms=_ORDER.event_time_ms + 52,
        **_VERSIONS,
    ),
    "features": FeatureRow(
        answer_id="orders-3-1205", features_version=_VERSIONS["features_version"], tensors=b"\x04\x00\x00\x00@\x00\x00\x80?"
    ),
}


def example(topic: str) -> Any:  # noqa: ANN401 (a JSON value)
    """Return the example of `topic` as the JSON value that is on the wire."""
    return msgspec.json.decode(msgspec.json.encode(EXAMPLES[topic]))
