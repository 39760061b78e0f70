"""The messages of all topics: source events, answers, side topics; and the topics' names.

Every message is a frozen msgspec struct. The JSON Schemas and the AsyncAPI document are generated from these types, so a bound is
defined here once. Unknown fields of a source event are ignored (a producer may be newer); missing fields, wrong types and values
out of bounds make it invalid.

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
    user: Id
    event_time_ms: EventTimeMs
    session: OptionalId = ""
    device: OptionalId = ""
    ip: Ip = ""
    scene: Scene = "other"
    platform: Platform = "other"


class Search(Event, frozen=True, kw_only=True):
    """A query and the items that were shown for it (topic `searches`)."""

    query: QueryText
    items_shown: Annotated[list[Id], Meta(max_length=200)] = []


class Click(Event, frozen=True, kw_only=True):
    """One interaction with one item (topic `clicks`)."""

    action: Action
    item: Id
    category: OptionalId = ""
    price: Money = 0.0
    position: Position = 0
    dwell_ms: DwellMs = 0


class OrderLine(Struct, frozen=True, kw_only=True):
    """One item of an order."""

    item: Id
    category: OptionalId = ""
    quantity: Quantity = 1
    unit_price: Money = 0.0


class Order(Event, frozen=True, kw_only=True):
    """A purchase (topic `orders`)."""

    lines: Annotated[list[OrderLine], Meta(min_length=1, max_length=200)]
    amount: Money
    currency: Currency
    payment_instrument: OptionalId = ""
    shipping_address: OptionalId = ""
    billing_country: Country = ""
    shipping_country: Country = ""
    ip_country: Country = ""


# --- answers ----------------------------------------------------------------------------------------------------------------


class Source(Struct, frozen=True):
    """The source event's coordinates in Kafka."""

    topic: str
    partition: int
    offset: int


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields of every answer. `answer_id` depends on the source coordinates alone: drop repeated answers by it.

    `duplicate_of` is present only if the producer sent the event twice (docs/adr/0009-duplicates.md). It is the `answer_id` of
    the first answers, whose content this answer repeats. If the store no longer keeps them, it is `commit-<group>-<number>`, the
    commit that applied the first event (the journal has its offsets), and the content is new.

    `degraded` is present, and true, only if the model failed or was too slow: then rules alone raise alerts, and the
    probabilities and candidates mean nothing (docs/runbook.md).
    """

    answer_id: str
    event_id: str
    user: str
    source: Source
    event_time_ms: int
    ingest_time_ms: int  # the source record's own Kafka timestamp
    scored_time_ms: int  # when the answer was decided, worker's clock
    model_version: str  # the model that scored the row: champion or challenger
    features_version: str
    duplicate_of: str = ""
    degraded: bool = False


class Reason(Struct, frozen=True):
    """An unusual feature, its value and its usual value."""

    feature: str
    value: float
    usual: float


class AlertEntities(Struct, frozen=True, kw_only=True):
    """What an alerted event shares with other events: equal texts mean the same session, device, ... An empty text: unknown.

    `raw`: the identifiers as the event had them. `digest`: 32 hexadecimal digits each, keyed digests (docs/privacy.md); those of
    one `privacy.id_key` can be compared. A search or click has no payment instrument and no shipping address.
    """

    form: Literal["digest", "raw"]
    session: str
    device: str
    ip: str
    payment_instrument: str
    shipping_address: str


class FraudAlert(Answer, frozen=True, kw_only=True, tag="fraud-alert", tag_field="type"):
    """An event that the fraud team must look at (topic `fraud-alerts`).

    `entities` is absent if the setting `privacy.alert_entities` is `none`.
    """

    probability: float
    threshold: float
    rules: list[str]
    reasons: list[Reason]
    amount: float
    currency: str
    entities: AlertEntities | None = None


class IntentLabel(Answer, frozen=True, kw_only=True, tag="intent-label", tag_field="type"):
    """The user's present intent, for every event (topic `intent-labels`).

    `fraud_alert` is true if the same event has an alert, so that a subscriber can check that no alert is missing.
    """

    intent: Intent
    probabilities: dict[str, float]
    next_action: NextAction
    click_probability: float
    fraud_probability: float
    fraud_alert: bool


class Candidate(Struct, frozen=True):
    """One item to show, with its ranking score and its origin."""

    item: str
    score: float
    source: str


class RecommendationCandidates(Answer, frozen=True, kw_only=True, tag="recommendation-candidates", tag_field="type"):
    """The items to show next, best first, for every event (topic `recommendation-candidates`)."""

    items: list[Candidate]


# --- side topics ------------------------------------------------------------------------------------------------------------


class DeadLetter(Struct, frozen=True, kw_only=True):
    """An invalid record (topic `dead-letters`). Key, value and header values are base64 of the original bytes."""

    answer_id: str
    reason: str
    place: str  # the step that refused it
    source: Source
    ingest_time_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class LateEvent(Struct, frozen=True, kw_only=True):
    """A valid event older than the allowed lateness (topic `late-events`). It changed no feature and has no answer."""

    answer_id: str
    source: Source
    late_by_ms: int  # beyond the newest event time of its user
    allowed_lateness_ms: int
    event: msgspec.Raw  # the original JSON


class Label(Struct, frozen=True, kw_only=True):
    """A label that becomes known later (topic `labels`, keyed by user id)."""

    event_id: Id
    user: Id
    label_time_ms: EventTimeMs  # when the label became known
    task: Literal["fraud", "intent", "click", "conversion"]
    value: float
    kind: str = ""  # e.g. card_testing, account_takeover
    source: Literal["chargeback", "verdict", "simulator", "import"] = "simulator"


class FeatureRow(Struct, frozen=True, kw_only=True):
    """The model's inputs of one event (topic `features`, written if features.record is on), to compare a replay with.

    `tensors` is an LZ4 block, in base64: the little-endian numbers of all tensors of `model.contract.INPUTS`, in their order.
    """

    answer_id: str
    features_version: str
    tensors: bytes


class JournalLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One group's commit of one batch (topic `journal`): enough to replay the live run in its own order.

    `reads` holds for each partition group the commit number at which the batch read it. `model_version` is the champion of the
    batch; `challengers` is present only if challengers answered some users: version -> percent of the users. `degraded` is
    present, and true, only if the batch was answered without a model. `forgotten` is present only if the store no longer kept the
    first answers of a duplicate: the commits of those answers.
    """

    group: int
    commit: int
    epoch: str
    ranges: dict[str, tuple[int, int]]  # topic -> [from, to)
    reads: dict[str, int]
    scored_time_ms: int = 0  # when the batch was decided, worker's clock; 0 in lines of earlier releases
    model_version: str
    features_version: str
    challengers: dict[str, float] = {}
    forgotten: list[int] = []
    degraded: bool = False
