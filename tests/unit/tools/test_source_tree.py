"""The checks of the tree find what they are for, in trees made here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.house import figures, trip_files
from tools.lint_names import banned_names, repeated_class_names, subject_problem
from tools.source_tree import Module, import_cycles, read_modules

CHECKOUT = Path(__file__).resolve().parents[3]


def modules(**sources: str) -> dict[str, Module]:
    return {name: Module(name, Path(f"{name}.py"), text) for name, text in sources.items()}


def test_a_cycle_through_a_function_and_a_type_only_import_is_one() -> None:
    tree = modules(
        a="from b import B\n",
        b="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from c import C\n",
        c="def f():\n    import a\n",
        d="import a\n",
    )
    assert import_cycles(tree) == [["a", "b", "c"]]


def test_an_import_of_a_module_from_its_package_counts_as_the_modules() -> None:
    tree = modules(p="", x="")
    tree["p.m"] = Module("p.m", Path("p/m.py"), "import x\n")
    tree["x"] = Module("x", Path("x.py"), "from p import m\n")
    assert import_cycles(tree) == [["p.m", "x"]]


def test_a_public_class_name_in_two_modules_is_refused_and_a_private_one_is_not() -> None:
    tree = modules(a="class Plan: ...\nclass _Own: ...\n", b="class Plan: ...\nclass _Own: ...\n", c="class Other: ...\n")
    assert repeated_class_names(tree) == ["Plan: a.py:1, b.py:1"]


def test_names_of_participles_are_refused_wherever_they_stand_in_a_name() -> None:
    tree = modules(told="", a="def _rows_found(): ...\nclass KeptRows:\n    def unfounded(self): ...\n")
    assert [finding.split(": ")[1] for finding in banned_names(tree)] == ["told (told)", "_rows_found (found)", "KeptRows (kept)"]


@pytest.mark.parametrize(
    ("subject", "is_fine"),
    [
        ("Refuse another partition count", True),
        ("Add a setting", True),
        ("Embed the broker", True),
        ("refuse another partition count", False),
        ("Refused another partition count", False),
        ("The broker is embedded", False),
        ("Refuse " + "x" * 66, False),
    ],
)
def test_subjects_of_commits(subject: str, is_fine: bool) -> None:
    assert (subject_problem(subject) is None) == is_fine


def test_steps_of_a_trip_are_counted_by_their_files() -> None:
    assert trip_files("1. `a/b.py` - x\n 2. `c.py` - y, see `d.py`\n3. `a/b.py` - z\n`e.py`\n") == ["a/b.py", "c.py"]


def test_the_figures_are_those_of_the_tree() -> None:
    values, lists = figures(CHECKOUT)
    product = read_modules(CHECKOUT)
    assert values["files"] == len(product)
    assert values["product_lines"] + values["tool_lines"] == sum(
        len((CHECKOUT / module.path).read_text().splitlines()) for module in product.values()
    )
    assert all((CHECKOUT / "stream_app" / name).exists() or (CHECKOUT / name).exists() for name in lists["event_trip_files"])
