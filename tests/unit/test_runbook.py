"""The runbook against the code: every error an operator can meet has an entry, and every entry is about an error there is.

An entry quotes a piece of the message, with `…` where the code puts a value, under the class and the module that raises it. So
who changes a message, or adds one, is told here which line of docs/runbook.md to change.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from prometheus_client import CollectorRegistry

from stream_app import errors
from stream_app.metrics import Metrics

CHECKOUT = Path(__file__).resolve().parents[2]
RUNBOOK = CHECKOUT / "docs" / "runbook.md"
PACKAGES = ("stream_app", "model", "trt_build")  # what an operator meets; a training tells who started it what to do
OPERATOR_ACTION = "Operator action: "
# Of these each message has an entry; of the others the class has one.
BY_MESSAGE = frozenset(
    {
        "ContractError",
        "RetryableError",
        "StoreUnavailableError",
        "BrokerUnavailableError",
        "AbandonedError",
        "StoreRolledBackError",
        "FencedError",
        "UnknownLayoutError",
        "EngineNotHereError",
    }
)
_QUOTED = re.compile(r"\*\*`(.+?)`\*\*", re.DOTALL)


class Raised(NamedTuple):
    """One place that makes an error: its class, its module, and the message with `…` for each value."""

    error: str
    module: str
    line: int
    message: str


class Entry(NamedTuple):
    """One quoted piece of a message in the runbook."""

    error: str
    module: str
    quoted: str


def assignments(node: ast.AST) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for child in ast.walk(node):
        if isinstance(child, ast.Assign) and len(child.targets) == 1 and isinstance(child.targets[0], ast.Name):
            found[child.targets[0].id] = child.value
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name) and child.value is not None:
            found[child.target.id] = child.value
    return found


def template(expression: ast.expr, names: dict[str, ast.expr]) -> str:
    """The text of a message as far as it is fixed."""
    match expression:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(template(part, names) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left, names) + template(right, names)
        case ast.Name(id=name) | ast.FormattedValue(value=ast.Name(id=name)) if isinstance(
            names.get(name), ast.Constant | ast.JoinedStr | ast.BinOp
        ):
            return template(names[name], {key: value for key, value in names.items() if key != name})
        case _:
            return "…"


def errors_made(tree: ast.Module, module: str) -> Iterator[Raised]:
    top: dict[str, ast.expr] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            top |= assignments(statement)

    def visit(node: ast.AST, names: dict[str, ast.expr]) -> Iterator[Raised]:
        for child in ast.iter_child_nodes(node):
            inner = {**names, **assignments(child)} if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else names
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id in BY_MESSAGE and child.args:
                message = re.sub("…+", "…", template(child.args[0], names))
                yield Raised(child.func.id, module, child.lineno, " ".join(message.split()))
            yield from visit(child, inner)

    yield from visit(tree, top)


def sources() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            yield str(path.relative_to(CHECKOUT)), path.read_text()


def all_raised() -> list[Raised]:
    return [raised for module, text in sources() for raised in errors_made(ast.parse(text), module)]


def entries() -> list[Entry]:
    found: list[Entry] = []
    error, module = "", ""
    block: list[str] = []

    def close() -> None:
        found.extend(Entry(error, module, " ".join(quoted.split())) for quoted in _QUOTED.findall("\n".join(block)))
        block.clear()

    for line in RUNBOOK.read_text().splitlines():
        if line.startswith("#"):
            close()
        if line.startswith("#### "):
            module = line.removeprefix("#### ").strip()
        elif line.startswith("#"):
            error, module = line.lstrip("#").strip(), ""
        elif module:
            block.append(line)
    close()
    return found


def headings() -> set[str]:
    return {line.removeprefix("### ") for line in RUNBOOK.read_text().splitlines() if line.startswith("### ")}


RAISED = all_raised()
ENTRIES = entries()


def test_the_errors_are_found_at_all() -> None:
    # A guard for the search itself: it must see plain calls, messages built before, and constants put into them.
    modules = {raised.module for raised in RAISED}
    assert {"stream_app/store/redis_layout.py", "stream_app/admin/positions.py", "stream_app/agents/transport.py"} <= modules
    assert len([raised for raised in RAISED if raised.module == "stream_app/inference/artifact.py"]) >= 5


@pytest.mark.parametrize("raised", RAISED, ids=lambda raised: f"{raised.module}:{raised.error}:{raised.message[:40]}")
def test_every_error_that_an_operator_can_meet_has_an_entry(raised: Raised) -> None:
    under = [entry.quoted for entry in ENTRIES if (entry.error, entry.module) == (raised.error, raised.module)]
    assert any(quoted in raised.message for quoted in under), (
        f"docs/runbook.md has no entry for {raised.error} of {raised.module}, line {raised.line}. Add under "
        f"'### {raised.error}', '#### {raised.module}': - **`a piece of the message`** Means: ... Do: ...\n"
        f"The message is: {raised.message}"
    )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.module}:{entry.error}:{entry.quoted[:40]}")
def test_every_entry_is_about_an_error_that_there_is(entry: Entry) -> None:
    messages = [raised.message for raised in RAISED if (raised.error, raised.module) == (entry.error, entry.module)]
    assert any(entry.quoted in message for message in messages), (
        f"docs/runbook.md quotes {entry.quoted!r}, but no {entry.error} of {entry.module} says so; it says {messages}"
    )


def test_every_operator_action_in_the_source_is_in_a_message_with_an_entry() -> None:
    known = {entry.module for entry in ENTRIES}
    for module, text in sources():
        said = [
            node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant) and OPERATOR_ACTION in str(node.value)
        ]
        # The doctor takes messages apart at these words; it makes none.
        if said and module != "stream_app/admin/doctor.py":
            assert module in known, (
                f"{module} tells the operator what to do (line {said[0].lineno}), the runbook does not know it"
            )


def test_every_entry_says_what_it_means_and_what_to_do() -> None:
    text = RUNBOOK.read_text()
    items = re.findall(r"^- \*\*`.*?(?=^- |^#|\Z)", text[text.index("\n## Errors\n") :], re.MULTILINE | re.DOTALL)
    assert items
    for item in items:
        assert re.search(r"\sMeans:\s.+\sDo:\s", item, re.DOTALL), f"no 'Means: ... Do: ...' in {item[:80]!r}"


def test_every_error_class_has_a_section() -> None:
    classes = {name for name in vars(errors) if name.endswith("Error") and name != "MillraceError"}
    assert classes <= headings(), f"docs/runbook.md has no section for {sorted(classes - headings())}"


def test_every_metric_is_in_the_runbook_and_no_other() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    kept = {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()}
    text = RUNBOOK.read_text()
    table = text[text.index("## Metrics") : text.index("### Alerts of")]
    assert set(re.findall(r"^\| `(millrace_\w+)`", table, re.MULTILINE)) == kept


def test_every_alert_is_in_the_runbook() -> None:
    rules = yaml.safe_load((CHECKOUT / "deploy" / "prometheus" / "rules.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert alerts == set(re.findall(r"^\| `(Millrace\w+)`", RUNBOOK.read_text(), re.MULTILINE))
