from __future__ import annotations

import pytest

from stream_app.codec.dead_letter_limit import DeadLetterLimit
from stream_app.errors import ContractError


def test_no_limit_is_the_default_and_lets_everything_pass() -> None:
    DeadLetterLimit(0.0).check(["clicks"] * 5_000, ["clicks"] * 5_000)


def test_a_few_records_mean_nothing_and_each_topic_counts_for_itself() -> None:
    limit = DeadLetterLimit(0.1)
    limit.check(["clicks"] * 99 + ["orders"] * 5_000, ["clicks"] * 99)
    with pytest.raises(ContractError, match=r"99% of the last 100 records of clicks .* allows 10%"):
        limit.check(["clicks"], [])


def test_old_records_fade() -> None:
    limit = DeadLetterLimit(0.5)
    for _ in range(100):
        limit.check(["clicks"] * 100, [])
    for _ in range(9):
        limit.check(["clicks"] * 100, ["clicks"] * 100)
    with pytest.raises(ContractError, match="records of clicks"):  # within the last 2,000
        limit.check(["clicks"] * 1_000, ["clicks"] * 1_000)
