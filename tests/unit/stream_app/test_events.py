"""The vocabularies, spelled out twice for the type checker's sake, stay equal."""

from __future__ import annotations

from typing import get_args

from stream_app import events


def test_every_literal_equals_its_tuple() -> None:
    assert get_args(events.Action) == events.ACTIONS
    assert get_args(events.Scene) == events.SCENES
    assert get_args(events.Platform) == events.PLATFORMS
    assert get_args(events.Intent) == events.INTENTS
    assert get_args(events.NextAction) == events.NEXT_ACTIONS
    assert get_args(events.SourceTopic) == events.SOURCE_TOPICS


def test_the_kinds_of_events_are_a_search_the_actions_and_an_order() -> None:
    assert ("search", *events.ACTIONS, "order") == events.KINDS
    assert (*events.KINDS, "leave") == events.NEXT_ACTIONS
