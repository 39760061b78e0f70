"""The tracker applies each offset once, detects holes, and keeps published commits until they are marked."""

from __future__ import annotations

import pytest

from stream_app.agents.ownership import OwnershipTracker
from stream_app.errors import ContractError
from stream_app.store.port import Claim


def tracker(**fronts: int) -> OwnershipTracker:
    made = OwnershipTracker(1)
    made.record_claim(0, Claim("1:w", fronts, 0, {}))
    return made


def test_ranges_that_join_are_planned_one_after_the_other() -> None:
    owned = tracker(clicks=10)
    for start, end in ((10, 20), (20, 21), (21, 50)):
        planned = owned.advance(0, "clicks", start, end)
        assert planned is not None
        assert (planned[0].epoch, planned[1]) == ("1:w", start)


@pytest.mark.parametrize(("start", "end"), [(0, 5), (5, 10), (9, 10)])
def test_what_is_applied_is_not_planned_again(start: int, end: int) -> None:
    assert tracker(clicks=10).advance(0, "clicks", start, end) is None


def test_a_range_that_is_half_applied_is_cut() -> None:
    planned = tracker(clicks=10).advance(0, "clicks", 4, 14)
    assert planned is not None
    assert planned[1] == 10


def test_a_range_beyond_the_front_is_a_hole_and_the_message_names_both_sides() -> None:
    with pytest.raises(ContractError, match=r"clicks-0: .* is 10, but 12 came; 2 offsets are missing"):
        tracker(clicks=10).advance(0, "clicks", 12, 14)


def test_a_topic_of_which_nothing_is_applied_begins_anywhere_and_then_has_a_front() -> None:
    owned = tracker()
    assert owned.advance(0, "clicks", 700, 710) is not None
    assert owned.advance(0, "clicks", 700, 710) is None
    with pytest.raises(ContractError):
        owned.advance(0, "clicks", 711, 712)


def test_topics_and_groups_have_fronts_of_their_own() -> None:
    owned = tracker(clicks=10, orders=3)
    owned.record_claim(1, Claim("1:v", {"clicks": 4}, 0, {}))
    assert owned.advance(0, "orders", 3, 4) is not None
    assert owned.advance(1, "clicks", 4, 5) is not None
    assert owned.advance(0, "clicks", 10, 11) is not None


def test_nothing_is_planned_for_a_group_of_others() -> None:
    owned = tracker(clicks=0)
    assert owned.advance(7, "clicks", 0, 5) is None
    [released] = owned.release([0, 7])
    assert released.group == 0
    assert owned.advance(0, "clicks", 0, 5) is None


def test_a_new_claim_forgets_what_was_planned() -> None:
    owned = tracker(clicks=10)
    owned.advance(0, "clicks", 10, 90)
    owned.record_claim(0, Claim("2:w", {"clicks": 20}, 1, {}))
    planned = owned.advance(0, "clicks", 15, 30)
    assert planned is not None
    assert (planned[0].epoch, planned[1]) == ("2:w", 20)


def test_published_commits_are_named_until_a_step_has_marked_them() -> None:
    owned = tracker()
    owned.record_claim(1, Claim("1:v", {}, 0, {}))
    owned.record_published(0, "1:w", 4)
    owned.record_published(0, "1:w", 5)
    owned.record_published(1, "1:v", 9)
    named = owned.published_commits(0, "1:w")
    assert named == (4, 5)
    owned.record_published(0, "1:w", 6)  # while the step is under way; the step may also be refused
    assert owned.published_commits(0, "1:w") == (4, 5, 6)
    owned.record_applied(0, "1:w", 7, named)
    assert owned.published_commits(0, "1:w") == (6,)
    assert owned.published_commits(1, "1:v") == (9,)
    assert owned.published_commits(2, "1:w") == ()


def test_commits_of_an_older_epoch_are_not_marked_by_this_one() -> None:
    owned = tracker()
    owned.record_published(0, "1:w", 5)
    owned.record_claim(0, Claim("2:w", {}, 4, {}))
    owned.record_published(0, "1:w", 4)
    owned.record_published(3, "1:w", 4)
    assert owned.published_commits(0, "2:w") == ()
    owned.record_published(0, "2:w", 5)
    assert owned.published_commits(0, "1:w") == (), "this number is another commit than that epoch's"


def test_the_last_commit_is_the_claims_and_then_that_of_each_step() -> None:
    owned = tracker()
    owned.record_claim(1, Claim("2:w", {}, 40, {}))
    owned.record_applied(1, "2:w", 41, ())
    owned.record_applied(1, "1:old", 99, ())
    owned.record_applied(7, "1:w", 3, ())
    assert owned.commits() == {0: 0, 1: 41}
