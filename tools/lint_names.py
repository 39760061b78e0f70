"""Refuse names that stand for two things, names that say what happens to a thing, import cycles, and long commit subjects.

    python -m tools.lint_names

Run by `make lint`. Exit status 1, with one line for each finding, where

- two modules of the product have a public class of one name: a reader cannot know which is meant;
- a module, a function or a class is named with a participle or pronoun of `BANNED` (`told`, `found`, `others`): such a name
  says what happens to a thing, not what the thing is;
- modules import one another, counting imports inside functions and imports for types alone;
- a commit of this branch that `main` does not have (or `origin/main`, or the newest commit) has a subject of more than 72
  characters, or one that does not begin with a capitalised verb in the imperative.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

from tools.source_tree import Module, import_cycles, read_modules

_ROOT: Final = Path(__file__).resolve().parents[1]
_SUBJECT_LIMIT: Final = 72
# docs/glossary.md and house rules: the name says the thing. `given` of a condition and `kept` of a setting are contracts and no
# function or module, so they are not looked at here.
BANNED: Final = frozenset(
    {
        *("told", "said", "found", "wanted", "given", "shown", "passing", "following", "begins", "answered", "kept"),
        *("others", "plain", "judged", "fates"),
    }
)
# First words that are no imperative: other forms of a verb, articles, pronouns.
_NOT_IMPERATIVE: Final = re.compile(r"^(?:\w+(?:ed|ing)|A|An|The|It|This|That|There|What|Who|Nothing|Some|All|No|Now)$")
_ALLOWED_FIRST: Final = frozenset({"Embed", "Feed", "Need", "Seed", "Speed", "Shed", "Bring", "String", "Ring"})


def repeated_class_names(modules: dict[str, Module]) -> list[str]:
    """Return public classes of one name in several modules, each with its places."""
    places = defaultdict(list)
    for module in modules.values():
        for node in module.classes:
            if not node.name.startswith("_"):
                places[node.name].append(f"{module.path}:{node.lineno}")
    return [f"{name}: {', '.join(where)}" for name, where in sorted(places.items()) if len(where) > 1]


def banned_names(modules: dict[str, Module]) -> list[str]:
    """Return modules, functions and classes that are named with a word of `BANNED`, each with its place."""
    findings = []
    for module in modules.values():
        names = [(module.name.rpartition(".")[2], 1)]
        names += [(node.name, node.lineno) for node in (*module.functions, *module.classes)]
        for name, line in names:
            words = set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))
            if words & BANNED:
                findings.append(f"{module.path}:{line}: {name} ({', '.join(sorted(words & BANNED))})")
    return findings


def subject_problem(subject: str) -> str | None:
    """Return what is wrong with the subject of a commit; None: nothing."""
    if len(subject) > _SUBJECT_LIMIT:
        return f"{len(subject)} characters, {_SUBJECT_LIMIT} are allowed"
    first = subject.split(maxsplit=1)[0].rstrip(":,")
    if not first[:1].isupper() or (_NOT_IMPERATIVE.match(first) and first not in _ALLOWED_FIRST):
        return "write it in the imperative, beginning with a capital: 'Refuse another partition count'"
    return None


def _git(*words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _branch_subjects() -> list[str]:
    """Return the subjects of the commits that the main branch lacks; on it, or without one, the newest commit's."""
    for base in ("origin/main", "main"):
        if _git("rev-parse", "--verify", "--quiet", base):
            subjects = _git("log", "--no-merges", "--format=%s", f"{base}..HEAD")
            if subjects:
                return subjects
    return _git("log", "-1", "--no-merges", "--format=%s")


def main() -> int:
    """Print the findings; return the exit status."""
    modules = read_modules(_ROOT)
    findings = [f"class name used twice: {entry}" for entry in repeated_class_names(modules)]
    findings += [f"name says what happens to a thing: {entry}" for entry in banned_names(modules)]
    findings += [f"import cycle: {' - '.join(cycle)}" for cycle in import_cycles(modules)]
    for subject in _branch_subjects():
        problem = subject_problem(subject)
        findings += [f"commit subject {subject!r}: {problem}"] if problem else []
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
