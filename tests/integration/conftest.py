"""The small worker of the transport's tests, on topics of its own, and a broker that a test may stop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devservices import real
from devservices.state import ServicesState
from tests.integration.transport_harness import SqliteSubject, create_topics, share_jars


@pytest.fixture
def own_broker(real_services: ServicesState, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Root folder and address of a broker that the test may stop; the jars are the checkout's."""
    share_jars(tmp_path)
    try:
        yield tmp_path, real.start_kafka(tmp_path).kafka.bootstrap
    finally:
        real.stop_kafka(tmp_path)


@pytest.fixture
def subject(real_services: ServicesState, topic_prefix: str, tmp_path: Path) -> Iterator[SqliteSubject]:
    """Topics, a store, and as many worker processes as the test starts; those that are left are killed."""
    yield from _subject(real_services.kafka.bootstrap, topic_prefix, tmp_path)


@pytest.fixture
def subject_of_own_broker(own_broker: tuple[Path, str], topic_prefix: str, tmp_path: Path) -> Iterator[SqliteSubject]:
    """The same on `own_broker`."""
    yield from _subject(own_broker[1], topic_prefix, tmp_path)


def _subject(bootstrap: str, prefix: str, folder: Path) -> Iterator[SqliteSubject]:
    subject = SqliteSubject(bootstrap, f"{prefix}group", create_topics(bootstrap, prefix), folder)
    yield subject
    subject.stop_all()
