"""The messages of all topics: source events, answers, side topics; and the topics' names.

Every message is a frozen msgspec struct. The JSON Schemas and the AsyncAPI document are generated from these types, so a bound is
defined here once; the text below a field is its description there. Unknown fields of a source event are ignored (a producer may
be newer); missing fields, wrong types and values out of bounds make it invalid.

Bounds: an identifier is 1 to 128 ASCII letters, digits or ``._:@/+=~|-``. It becomes part of keys, metrics and alerts, where
spaces, quotes, braces and control characters have caused incidents; where an empty string is allowed, it means "unknown". Money
is at most 1e9 in the event's currency, with two decimals of precision in state (sums are integer cents).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

# --- topics ------------------------------------------------------------------------------------------------------------

SOURCE_TOPICS: Final = ("searches", "clicks", "orders")
ANSWER_TOPICS: Final = ("fraud-alerts", "intent-labels", "recommendation-candidates")
SIDE_TOPICS: Final = ("dead-letters", "late-events", "labels", "journal", "features")

# --- vocabularies: the model sees the order as codes, so only append -----------------------------------------------

ACTIONS: Final = ("view", "click", "cart", "favourite")
KINDS: Final = ("search", "view", "click", "cart", "favourite", "order")  # kinds of events, across topics
SCENES: Final = ("other", "home", "search", "detail", "cart", "live", "recommend", "campaign", "checkout", "service")
PLATFORMS: Final = ("other", "ios", "android", "web", "mini_program", "pos")
INTENTS: Final = ("buy", "look", "return", "other")
NEXT_ACTIONS: Final = ("search", "view", "click", "cart", "favourite", "order", "leave")

# The literals below repeat the tuples above because a type checker needs them spelled out; a test keeps them equal.
Action = Literal["view", "click", "cart", "favourite"]
Scene = Literal["other", "home", "search", "detail", "cart", "live", "recommend", "campaign", "checkout", "service"]
Platform = Literal["other", "ios", "android", "web", "mini_program", "pos"]
Intent = Literal["buy", "look", "return", "other"]
NextAction = Literal["search", "view", "click", "cart", "favourite", "order", "leave"]
SourceTopic = Literal["searches", "clicks", "orders"]

# --- bounded scalars --------------------------------------------------------------------------------------------------------

_ID_CHARS = r"[A-Za-z0-9._:@/+=~|-]"
# `(?![\s\S])` is "end of text" in Python and in ECMAScript alike; `$` would let a trailing newline through.
Id = Annotated[str, Meta(min_length=1, max_length=128, pattern=rf"^{_ID_CHARS}+(?![\s\S])")]
OptionalId = Annotated[str, Meta(max_length=128, pattern=rf"^{_ID_CHARS}*(?![\s\S])")]
Ip = Annotated[str, Meta(max_length=45, pattern=r"^[0-9A-Fa-f.:]*(?![\s\S])")]
Country = Annotated[str, Meta(pattern=r"^([A-Z]{2})?(?![\s\S])")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}(?![\s\S])")]
Probability = Annotated[float, Meta(extra_json_schema={"minimum": 0, "maximum": 1})]  # stands in the schema; not checked
Money = Annotated[float, Meta(ge=0.0, le=1e9)]
EventTimeMs = Annotated[int, Meta(ge=0, le=4_102_444_800_000)]  # 1970 to 2100: beyond it is a unit mistake (us, ns)
QueryText = Annotated[str, Meta(max_length=512)]
Position = Annotated[int, Meta(ge=0, le=100_000)]
DwellMs = Annotated[int, Meta(ge=0, le=86_400_000)]
Quantity = Annotated[int, Meta(ge=1, le=100_000)]

# --- source events ----------------------------------------------------------------------------------------------------------


class Event(Struct, frozen=True, kw_only=True):
    """The fields of every source event. The Kafka key is the user id, in UTF-8."""

    event_id: Id
    """The producer's own id of the event. A record sent again keeps it, and keeps the time."""
    user: Id
    """Who did it; also the record's key."""
    event_time_ms: EventTimeMs
    """When it happened, epoch milliseconds UTC."""
    session: OptionalId = ""
    """The client's session."""
    device: OptionalId = ""
    """The client's device."""
    ip: Ip = ""
    """The client's address, IPv4 or IPv6."""
    scene: Scene = "other"
    """The part of the shop."""
    platform: Platform = "other"
    """The kind of client."""


class Search(Event, frozen=True, kw_only=True):
    """A query and the items that were shown for it (topic `searches`)."""

    query: QueryText
    """What the user typed."""
    items_shown: Annotated[list[Id], Meta(max_length=200)] = []
    """The items of the result, in the order shown."""


class Click(Event, frozen=True, kw_only=True):
    """One interaction with one item (topic `clicks`)."""

    action: Action
    """What the user did with the item."""
    item: Id
    """The item."""
    category: OptionalId = ""
    """The item's category."""
    price: Money = 0.0
    """Price of one piece, in the shop's currency; 0: unknown."""
    position: Position = 0
    """Place in the list in which the item was shown."""
    dwell_ms: DwellMs = 0
    """How long the user stayed, milliseconds; 0: unknown."""


class OrderLine(Struct, frozen=True, kw_only=True):
    """One item of an order."""

    item: Id
    """The item."""
    category: OptionalId = ""
    """The item's category."""
    quantity: Quantity = 1
    """Number of pieces."""
    unit_price: Money = 0.0
    """Price of one piece, in the order's currency."""


class Order(Event, frozen=True, kw_only=True):
    """A purchase (topic `orders`)."""

    lines: Annotated[list[OrderLine], Meta(min_length=1, max_length=200)]
    """What was ordered; the first line's item and category stand for the order in features."""
    amount: Money
    """The whole amount, in `currency`."""
    currency: Currency
    """ISO 4217 code. Amounts of two currencies are not converted."""
    payment_instrument: OptionalId = ""
    """Token of the card or account, never its number."""
    shipping_address: OptionalId = ""
    """Token of the address."""
    billing_country: Country = ""
    """ISO 3166 code."""
    shipping_country: Country = ""
    """ISO 3166 code."""
    ip_country: Country = ""
    """ISO 3166 code of the client's address."""


# --- answers ----------------------------------------------------------------------------------------------------------------


class Source(Struct, frozen=True):
    """The source event's coordinates in Kafka."""

    topic: str
    """Source topic without `kafka.topic_prefix`: `searches`, `clicks` or `orders`."""
    partition: int
    """Partition, from 0; the answer's own as well."""
    offset: int
    """Offset of the source record."""


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields of every answer. `answer_id` depends on the source coordinates alone: drop repeated answers by it.

    `duplicate_of` is present only if the producer sent the event twice (docs/adr/0009-duplicates.md). It is the `answer_id` of
    the first answers, whose content this answer repeats. If the store no longer keeps them, it is `commit-<group>-<number>`, the
    commit that applied the first event (the journal has its offsets), and the content is new.

    `degraded` is present, and true, only if the model failed or was too slow: then rules alone raise alerts, and the
    probabilities and candidates mean nothing (docs/runbook.md).
    """

    answer_id: str
    """`topic-partition-offset` of the source record: the same for all answers of one event and for every repetition."""
    event_id: str
    """The event's own id."""
    user: str
    """The event's user."""
    source: Source
    """Where the event is."""
    event_time_ms: int
    """The event's time, epoch milliseconds UTC."""
    ingest_time_ms: int
    """Kafka timestamp of the source record, epoch milliseconds UTC; -1 if the record has none."""
    scored_time_ms: int
    """When the answer was decided, by the worker's clock, epoch milliseconds UTC."""
    model_version: str
    """The model that scored the event: champion or challenger; `none` without a model."""
    features_version: str
    """Hash of the feature catalogue."""
    duplicate_of: str = ""
    """`answer_id` of the first answers, or `commit-<group>-<number>`; only if the producer sent the event twice."""
    degraded: bool = False
    """True if the model did not answer: rules alone alert, and probabilities, intent, next action and items mean nothing."""


class Reason(Struct, frozen=True):
    """An unusual feature, its value and its usual value."""

    feature: str
    """Name in docs/features.md."""
    value: float
    """The event's value, in the feature's unit."""
    usual: float
    """Median of the model's training set, in the same unit."""


class AlertEntities(Struct, frozen=True, kw_only=True):
    """What an alerted event shares with other events: equal texts mean the same session, device, ... An empty text: unknown.

    `raw`: the identifiers as the event had them. `digest`: 32 hexadecimal digits each, keyed digests (docs/privacy.md); those of
    one `privacy.id_key` can be compared. A search or click has no payment instrument and no shipping address.
    """

    form: Literal["digest", "raw"]
    """Whether the texts are digests or identifiers."""
    session: str
    """The client's session."""
    device: str
    """The client's device."""
    ip: str
    """The client's address."""
    payment_instrument: str
    """The order's card or account."""
    shipping_address: str
    """The order's address."""


class FraudAlert(Answer, frozen=True, kw_only=True, tag="fraud-alert", tag_field="type"):
    """An event that the fraud team must look at (topic `fraud-alerts`).

    `entities` is absent if the setting `privacy.alert_entities` is `none`.
    """

    probability: Probability
    """The model's probability of fraud."""
    threshold: Probability
    """The event is an alert from this probability on; 1 also if only rules can alert."""
    rules: list[str]
    """Names of the rules that fired; empty: the model alone."""
    reasons: list[Reason]
    """Up to 5 features furthest from their usual values, the furthest first."""
    amount: float
    """The order's amount in `currency`; 0 unless the event is an order."""
    currency: str
    """The order's currency; empty unless the event is an order."""
    entities: AlertEntities | None = None
    """What the event shares with other events; see `privacy.alert_entities`."""


class IntentLabel(Answer, frozen=True, kw_only=True, tag="intent-label", tag_field="type"):
    """The user's present intent, for every event (topic `intent-labels`).

    `fraud_alert` is true if the same event has an alert, so that a subscriber can check that no alert is missing.
    """

    intent: Intent
    """The most probable intent."""
    probabilities: dict[str, Probability]
    """Probability of each intent; their sum is 1 but for rounding."""
    next_action: NextAction
    """The most probable next event of the session; `leave`: none."""
    click_probability: Probability
    """Probability that the item of a view is clicked, carted, kept or ordered later in the session."""
    fraud_probability: Probability
    """The model's probability of fraud."""
    fraud_alert: bool
    """Whether the event has a fraud alert with this `answer_id`."""


class Candidate(Struct, frozen=True):
    """One item to show, with its ranking score and its origin."""

    item: str
    """Item id of the model's catalogue."""
    score: float
    """Inner product of user and item vector: any number, higher is better; compare within one answer only."""
    source: str
    """Origin: `model` is the only one now."""


class RecommendationCandidates(Answer, frozen=True, kw_only=True, tag="recommendation-candidates", tag_field="type"):
    """The items to show next, best first, for every event (topic `recommendation-candidates`)."""

    items: list[Candidate]
    """Up to 20 different items, best first; fewer if the model knows fewer, none if it did not answer."""


# --- side topics ------------------------------------------------------------------------------------------------------------


class DeadLetter(Struct, frozen=True, kw_only=True):
    """An invalid record (topic `dead-letters`). Key, value and header values are base64 of the original bytes."""

    answer_id: str
    """`topic-partition-offset` of the source record."""
    reason: str
    """What is wrong, for a person; its words may change."""
    place: str
    """The step that refused it; `codec.decode` is the only one now."""
    source: Source
    """Where the record is."""
    ingest_time_ms: int
    """Kafka timestamp of the record, epoch milliseconds UTC; -1 if it has none."""
    key: bytes | None
    """The record's key."""
    value: bytes | None
    """The record's value."""
    headers: list[tuple[str, bytes | None]]
    """The record's headers, in order."""


class LateEvent(Struct, frozen=True, kw_only=True):
    """A valid event older than the allowed lateness (topic `late-events`). It changed no feature and has no answer."""

    answer_id: str
    """`topic-partition-offset` of the source record."""
    source: Source
    """Where the event is."""
    late_by_ms: int
    """How much older than its user's newest event, milliseconds."""
    allowed_lateness_ms: int
    """The limit, `features.allowed_lateness_ms`."""
    event: msgspec.Raw
    """The event as its producer wrote it."""


class Label(Struct, frozen=True, kw_only=True):
    """A label that becomes known later (topic `labels`, keyed by user id)."""

    event_id: Id
    """The labelled event."""
    user: Id
    """The event's user; also the record's key."""
    label_time_ms: EventTimeMs
    """When the label became known, epoch milliseconds UTC."""
    task: Literal["fraud", "intent", "click", "conversion"]
    """What it labels."""
    value: float
    """1: yes, 0: no; of task `intent` the number of the intent, from 0: `buy`, `look`, `return`, `other`."""
    kind: str = ""
    """More about it, as `card_testing`."""
    source: Literal["chargeback", "verdict", "simulator", "import"] = "simulator"
    """Who says so."""


class FeatureRow(Struct, frozen=True, kw_only=True):
    """The model's inputs of one event (topic `features`, written if features.record is on), to compare a replay with.

    `tensors` is an LZ4 block, in base64: the little-endian numbers of all tensors of `model.contract.INPUTS`, in their order.
    """

    answer_id: str
    """`topic-partition-offset` of the source record."""
    features_version: str
    """Hash of the feature catalogue."""
    tensors: bytes
    """The model's inputs, an LZ4 block; see the type."""


class JournalLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One group's commit of one batch (topic `journal`): enough to replay the live run in its own order.

    `reads` holds for each partition group the commit number at which the batch read it. `model_version` is the champion of the
    batch; `challengers` is present only if challengers answered some users: version -> percent of the users. `degraded` is
    present, and true, only if the batch was answered without a model. `forgotten` is present only if the store no longer kept the
    first answers of a duplicate: the commits of those answers.
    """

    group: int
    """Partition group."""
    commit: int
    """The group's commit number, from 1."""
    epoch: str
    """The claim that made it: number, owner, token."""
    ranges: dict[str, tuple[int, int]]
    """Source topic -> offsets from (included) to (excluded)."""
    reads: dict[str, int]
    """Group -> its commit number as the batch read it."""
    scored_time_ms: int = 0
    """When the batch was decided, worker's clock, epoch milliseconds UTC; 0 in lines of earlier releases."""
    model_version: str
    """The batch's champion."""
    features_version: str
    """Hash of the feature catalogue."""
    challengers: dict[str, float] = {}
    """Version -> percent of the users that it may answer."""
    forgotten: list[int] = []
    """Commits whose answers a duplicate needed and the store no longer kept."""
    degraded: bool = False
    """True if the batch was answered without a model."""
