"""The small worker of the transport's tests, on topics of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devservices.state import ServicesState
from tests.integration.transport_harness import SqliteSubject, create_topics


@pytest.fixture
def subject(real_services: ServicesState, topic_prefix: str, tmp_path: Path) -> Iterator[SqliteSubject]:
    """Topics, a store, and as many worker processes as the test starts; those that are left are killed."""
    bootstrap = real_services.kafka.bootstrap
    subject = SqliteSubject(bootstrap, f"{topic_prefix}group", create_topics(bootstrap, topic_prefix), tmp_path)
    yield subject
    subject.stop_all()
