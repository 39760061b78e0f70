"""Compiled code is cached under a hash of its sources, and a warm worker compiles nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stream_app.features import jit

ROOT = Path(__file__).resolve().parents[4]

# What a worker does from its first event on, after `warm`: batches of one and of many, with and without replicas of other groups.
SCRIPT = """
import numba
from stream_app.privacy import Pseudonymizer
from stream_app.events import Click, Order, OrderLine, Search
from stream_app.features import fold
from stream_app.features.columns import event_columns as columns, text
from stream_app.features.state import blob, tiles
from stream_app.features.state.blobs import Blobs
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine

def signatures():
    parts = {"blob": blob, "columns": columns, "fold": fold, "text": text, "tiles": tiles}
    actual = {f"{part}.{n}": f for part, module in parts.items() for n, f in vars(module).items()}
    return {name: len(function.signatures) for name, function in actual.items() if hasattr(function, "signatures")}

engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=1_000)
engine.warm()
before = signatures()
assert before["fold.fold_kind"] and before["blob._pack"] and before["blob._unpack"] and before["tiles.merge_replicas"], before
held = {}
for size in (1, 7, 1, 40):
    where = {"device": "d", "ip": "10.0.0.1", "session": "s"}
    events = [
        made
        for n in range(size)
        for made in (
            Search(event_id=f"s{size}{n}", user=f"u{n}", event_time_ms=10_000 + n, query="red shoes", **where),
            Click(event_id=f"c{size}{n}", user=f"u{n}", event_time_ms=10_000 + n, action="view", item="i", category="c", **where),
            Order(event_id=f"o{size}{n}", user=f"u{n}", event_time_ms=10_000 + n, lines=[OrderLine(item="i")], amount=2.5,
                  currency="EUR", payment_instrument="p", shipping_address="a", **where),
        )
    ]
    batch = engine.columns(events, [n % 2 for n in range(len(events))], Pseudonymizer(b"k"))
    rows = engine.rows(batch)
    own = {k: engine.unpack(k, [held.get((k, key)) for key in r.keys]) for k, r in rows.items()}
    others = {k.name: engine.merge(k.name, [[b] if (b := held.get((k.name, key))) else [] for key in rows[k.name].keys])
              for k in engine.kinds if k.shared}
    result = engine.fold(batch, rows, own, others)
    for k, state in own.items():
        for key, packed in zip(rows[k].keys, engine.pack(k, state), strict=True):
            held[k, key] = packed
assert signatures() == before, (before, signatures())
print("nothing was compiled")
"""


def test_a_warm_engine_compiles_nothing_at_the_first_event() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing was compiled" in done.stdout


def test_a_change_of_any_source_changes_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "fold.py").write_text("a = 1\n")
    (tmp_path / "inner" / "part.py").write_text("b = 1\n")
    monkeypatch.setattr(jit, "_HERE", tmp_path)
    monkeypatch.setattr(jit, "_candidates", lambda: iter([tmp_path / "cache"]))
    first = jit.cache_folder()
    assert first is not None
    assert first.parent == tmp_path / "cache"
    assert jit.cache_folder() == first
    (tmp_path / "inner" / "part.py").write_text("b = 2\n")
    second = jit.cache_folder()
    assert second != first
    assert not first.exists(), "code of older sources is removed"


def test_where_nothing_can_be_written_beside_the_sources_another_place_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, so no folder can be made in it")
    monkeypatch.setattr(jit, "_candidates", lambda: iter([blocked / "cache", tmp_path / "free"]))
    folder = jit.cache_folder()
    assert folder is not None
    assert folder.parent == tmp_path / "free"
    monkeypatch.setattr(jit, "_candidates", lambda: iter([blocked / "cache"]))
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: (blocked / "temporary").mkdir())
    assert jit.cache_folder() is None, "numba compiles without keeping anything"
