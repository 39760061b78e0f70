"""Names of aggregations: declaration, code, specification and file agree."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from stream_app.features import aggregations
from stream_app.features.aggregations.spec import AggregationCode
from stream_app.features.declarations import Aggregation

FILES = Path(aggregations.__file__).parent.rglob("*.py")


def test_every_aggregation_has_one_code_one_specification_and_one_file_of_its_name() -> None:
    names = sorted(get_args(Aggregation))
    assert sorted(code.name.lower() for code in AggregationCode) == names
    assert sorted(aggregations.SPECS) == names
    assert sorted(file.stem for file in FILES if file.stem not in ("__init__", "spec")) == names
