"""The documents that people write: their links resolve, and the commands they name are those that exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from stream_app.__main__ import millrace
from stream_app.cli import COMMANDS
from stream_app.config import setting_docs
from training.cli import main as training_command
from trt_build.__main__ import main as trt_build_command

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")])
# The log tells what was run on its day; the results are a command's own page.
COMMAND_DOCUMENTS = [
    *(CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(path for path in sorted(CHECKOUT.glob("docs/*.md")) if path.name not in {"log.md", "results.md"}),
]

MODULES = {"training": training_command, "trt_build": trt_build_command}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_VARIABLE = re.compile(r"MILLRACE_[A-Z_]+")
# A backticked error message that only quotes a command inside a longer sentence is no command to run.
_COMMAND = re.compile(r"^(?:[A-Z_]+=\S+ )*(make|millrace|python -m (?:training|trt_build))( [^`]*)?$")


def name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def commands(text: str) -> Iterator[str]:
    """Every `make`, `millrace`, `python -m training` or `trt_build` in a code span, or beginning a line of a shell block."""
    lines = [line.strip() for language, block in _FENCE.findall(text) if language == "sh" for line in block.splitlines()]
    for candidate in [*lines, *_SPAN.findall(prose(text))]:
        for part in re.split(r"\s+(?:&&|\||&)(?:\s+|$)", candidate.split(" #")[0].strip()):
            if _COMMAND.match(part):
                yield part


def words(command: str) -> list[str]:
    """The command's words, variables before it and a shell's `&` left out."""
    return [word for word in shlex.split(command) if word != "&" and not re.fullmatch(r"[A-Z_]+=.*", word)]


def anchors(path: Path) -> set[str]:
    """The headings of a document as GitHub names them in links."""
    found = set()
    for heading in _HEADING.findall(prose(path.read_text())):
        text = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.add(text.replace(" ", "-"))
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    missing = []
    for target in _LINK.findall(prose(path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        is_dead = not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there))
        if is_dead or not there.is_relative_to(CHECKOUT):
            missing.append(target)
    assert not missing, f"{name(path)} links to what is not there: {missing}"


@pytest.mark.parametrize("path", COMMAND_DOCUMENTS, ids=name)
def test_every_make_target_that_is_named_exists(path: Path) -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    named = {word for command in commands(path.read_text()) if words(command)[0] == "make" for word in words(command)[1:]}
    assert named <= targets, f"{name(path)} names targets that the Makefile lacks: {sorted(named - targets)}"


@pytest.mark.parametrize("path", COMMAND_DOCUMENTS, ids=name)
def test_every_sub_command_that_is_named_exists(path: Path) -> None:
    shown = [words(command) for command in commands(path.read_text())]
    named = {command[1] for command in shown if command[0] == "millrace" and len(command) > 1}
    for sub_command in {word for word in named if not word.startswith("-")}:
        assert sub_command in COMMANDS, f"{name(path)} names `millrace {sub_command}`, which there is not"
        assert importlib.util.find_spec(f"stream_app.cli.{COMMANDS[sub_command][0]}"), f"`millrace {sub_command}` has no module"


def parsed(root: click.Command, arguments: list[str]) -> None:
    """Parse a command line down to its sub-command, running nothing.

    Raises:
        UsageError: Of a wrong option, choice or number; not of files that are not there, nor of a command that is only named.
    """
    context, command, rest = click.Context(root), root, list(arguments)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        assert found is not None, f"`{' '.join(arguments)}`: there is no {rest[0]!r}"
        context, command = click.Context(found, parent=context, info_name=rest.pop(0)), found
    if isinstance(command, click.Group) and not rest:
        return
    try:
        command.make_context(context.info_name, rest, parent=context.parent)
    except click.MissingParameter:
        if rest:
            raise
    except click.BadParameter as err:
        if "does not exist" not in err.message:
            raise


def runs() -> list[str]:
    found = {command: None for path in COMMAND_DOCUMENTS for command in commands(path.read_text())}
    by_themselves = {"millrace --settings", "millrace --config"}  # options of the group, named without a command
    return [command for command in found if words(command)[0] != "make" and command not in by_themselves]


@pytest.mark.parametrize("command", [command for command in runs() if "..." not in command])
def test_every_command_line_that_is_shown_can_be_parsed(command: str) -> None:
    given = words(command)
    root, rest = (millrace, given[1:]) if given[0] == "millrace" else (MODULES[given[2]], given[3:])
    parsed(root, [word for word in rest if word != "--settings"])


def test_the_quick_start_commands_are_in_the_help() -> None:
    shown = CliRunner().invoke(millrace, ["--help"])
    assert shown.exit_code == 0, shown.output
    quick_start = {
        words(command)[1] for command in commands((CHECKOUT / "README.md").read_text()) if command.startswith("millrace ")
    }
    assert {"topics", "worker", "simulate", "tail"} <= quick_start, "the README shows how to run on real services"
    for sub_command in quick_start:
        assert re.search(rf"^  {sub_command} ", shown.output, re.MULTILINE), f"`millrace --help` does not list {sub_command}"
        helped = CliRunner().invoke(millrace, [sub_command, "--help"])
        assert helped.exit_code == 0, helped.output


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_variable_that_is_named_is_a_setting(path: Path) -> None:
    known = {item.env for item in setting_docs()} | {"MILLRACE_CONFIG"}
    named = {variable for variable in _VARIABLE.findall(path.read_text()) if not variable.endswith("_")}
    assert named <= known, f"{name(path)} names variables that are no setting: {sorted(named - known)}"


def test_every_decision_stands_in_the_index() -> None:
    folder = CHECKOUT / "docs" / "adr"
    pages = {page.name for page in folder.glob("[0-9]*.md")}
    index = set(_LINK.findall((folder / "README.md").read_text())) - {"template.md"}
    assert pages == index
    for page in pages:
        text = (folder / page).read_text()
        assert text.startswith(f"# {page[:4]}: "), f"{page}: the title has the number"
        for part in ("Status: ", "## Context", "## Decision", "## Alternatives", "## Consequences"):
            assert part in text, f"{page} has no {part!r}"
