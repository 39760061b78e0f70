"""Raw files are read as their documentation says, whatever the importer does."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.events import Click, Order
from verification.harness.raw_files import card_events, find_files, stand_in, taobao_events


def test_each_taobao_behaviour_is_its_event(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    rows = "7,1,2,pv,10\n7,1,2,cart,11\n7,1,2,fav,12\n8,3,4,buy,13\n"
    path.write_bytes(gzip.compress(rows.encode()))
    events = list(taobao_events(path, 10))
    assert [type(event) for event in events] == [Click, Click, Click, Order]
    assert [event.action for event in events if isinstance(event, Click)] == ["view", "cart", "favourite"]
    assert [event.event_time_ms for event in events] == [10_000, 11_000, 12_000, 13_000]
    assert {event.user for event in events} == {"tb-7", "tb-8"}


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    files = stand_in(tmp_path, 50, 40)
    assert list(taobao_events(files.taobao, 20)) == list(taobao_events(files.taobao, 50))[:20]
    assert list(card_events(files.cards, 15)) == list(card_events(files.cards, 40))[:15]


def test_cards_come_by_time_even_if_the_file_is_not_sorted(tmp_path: Path) -> None:
    path = tmp_path / "cards.parquet"
    table = pa.table(
        {
            "time": np.array([3_000, 1_000, 2_000], "datetime64[ms]"),
            "transaction_id": np.array([7, 8, 9]),
            "customer_id": np.array([1, 2, 3], np.int32),
            "terminal_id": np.array([4, 5, 6], np.int32),
            "amount": np.array([57.16, 0.1, 2.0]),
        }
    )
    pq.write_table(table, path)
    events = list(card_events(path, 2))
    assert [event.user for event in events] == ["card-2", "card-3"]
    assert events[0].event_time_ms == 1_000
    assert isinstance(events[0], Order)


def test_the_stand_in_has_the_shape_of_the_real_files_and_repeats_exactly(tmp_path: Path) -> None:
    one, two = stand_in(tmp_path / "a", 300, 200), stand_in(tmp_path / "b", 300, 200)
    assert one.kind == "simulated"
    taobao = list(taobao_events(one.taobao, 300))
    assert taobao == list(taobao_events(two.taobao, 300))
    assert len({event.user for event in taobao}) < 200  # users come back
    cards = list(card_events(one.cards, 200))
    assert cards == list(card_events(two.cards, 200))
    assert [event.event_time_ms for event in cards] == sorted(event.event_time_ms for event in cards)
    assert all(isinstance(event, Order) and event.amount > 0 for event in cards)


def test_real_files_are_found_only_if_both_are_there(tmp_path: Path) -> None:
    assert find_files(tmp_path) is None
    (tmp_path / "clickstream").mkdir()
    (tmp_path / "clickstream" / "taobao_user_behavior.csv.gz").touch()
    assert find_files(tmp_path) is None
    (tmp_path / "fraud").mkdir()
    (tmp_path / "fraud" / "card_transactions_apr_aug_2018.parquet").touch()
    files = find_files(tmp_path)
    assert files is not None
    assert files.kind == "real"
