"""A fraud alert tells of its event's device, card, ... what the setting says, live and in replay alike."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from stream_app.config import ModelSettings, PrivacySettings, Settings
from stream_app.decision.alert_entities import entities_reader
from stream_app.events import AlertEntities, Click, Event
from stream_app.logs.log_source import chunks_of, open_log
from stream_app.privacy import Pseudonymizer
from stream_app.replay.canonical import CanonicalReplay
from stream_app.store.memory import MemoryStore
from tests.scoring import make_events, scoring_engine, scoring_pipeline
from tests.scoring_run import GROUPS, SHARED, USERS, NotingRanker, Run, log_of
from tests.unit.stream_app.replay.test_canonical import write_log

DEMO = Path(__file__).resolve().parents[4] / "model" / "artifacts" / "demo"
IDENTITY = Pseudonymizer(b"a key of this test")


def test_digests_are_those_of_the_states_keys_and_two_spellings_of_an_address_have_one() -> None:
    click = Click(event_id="e", user="u", event_time_ms=1, session="s-1", ip="2001:DB8::0:1", action="view", item="i")
    read = entities_reader("digest", IDENTITY)
    entities = read(click)
    assert entities == AlertEntities(
        form="digest",
        session=IDENTITY.digest("session", "s-1").hex(),
        device="",
        ip=IDENTITY.digest("ip", "2001:db8::1").hex(),
        payment_instrument="",
        shipping_address="",
    )
    assert entities == read(msgspec.structs.replace(click, ip="2001:db8::1"))
    orders = [event for event in make_events(30, users=USERS, devices=["d-1"]) if "payment_instrument" in event.__struct_fields__]
    columns = scoring_engine().columns(orders, [0] * len(orders), IDENTITY)
    told = [read(order) for order in orders]
    assert [one.payment_instrument for one in told if one] == [key.hex() for key in columns.keys["instrument"]]
    assert [one.shipping_address for one in told if one] == [key.hex() for key in columns.keys["address"]]
    assert [one.device for one in told if one] == [key.hex() for key in columns.keys["device"]]


def live_and_replayed(events: list[Event], settings: Settings, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the alerts by event id, of the worker's pipeline and of a replay."""
    store = MemoryStore(GROUPS, SHARED)
    run = Run(scoring_pipeline(store, settings=settings), store, NotingRanker())
    asyncio.run(run.batch(log_of(events)))
    run.pipeline.model_thread.shutdown()
    live = {message["event_id"]: message for topic, message in run.messages() if topic == "fraud-alerts"}
    with CanonicalReplay(settings, scoring_engine()) as replay:
        batches = list(replay.batches(chunks_of(open_log([write_log(folder / "log.jsonl", events)]), 16)))
    values = [value for batch in batches for value in batch.messages["fraud-alerts"].values]
    return live, {message["event_id"]: message for message in map(msgspec.json.decode, values)}


@pytest.mark.parametrize("form", ["none", "digest", "raw"])
def test_an_alert_tells_what_the_setting_says_live_and_in_replay_alike(
    form: Literal["none", "digest", "raw"], tmp_path: Path
) -> None:
    settings = Settings(
        model=ModelSettings(engine="onnxruntime", path=str(DEMO), fraud_threshold=0.0),
        privacy=replace(PrivacySettings(), alert_entities=form),
    )
    events = make_events(40, users=USERS, devices=["d-1", "d-2"])
    live, replayed = live_and_replayed(events, settings, tmp_path)
    assert live.keys() == replayed.keys() == {event.event_id for event in events}
    for event in events:
        alert, again = live[event.event_id], replayed[event.event_id]
        assert alert.get("entities") == again.get("entities")
        if form == "none":
            assert "entities" not in alert
        else:
            assert list(alert)[-1] == "entities", "what was there before stands where it stood"
            assert alert["entities"]["form"] == form
            assert (alert["entities"]["device"] == getattr(event, "device")) == (form == "raw")  # noqa: B009
            assert bool(alert["entities"]["shipping_address"]) == hasattr(event, "shipping_address")
