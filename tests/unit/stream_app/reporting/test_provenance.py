"""Where a figure comes from is said whole."""

from __future__ import annotations

import re

from stream_app.clock import SettableClock
from stream_app.reporting import provenance


def test_an_origin_has_a_commit_a_machine_its_cores_and_the_date_in_utc() -> None:
    found = provenance.origin(SettableClock(1_700_000_000_999))
    assert found["date"] == "2023-11-14T22:13:20+00:00"
    assert int(found["cores"]) >= 1
    assert "Python 3." in str(found["machine"])
    assert re.fullmatch(r"[0-9a-f]{12}\+?|unknown", str(found["commit"]))
