"""Print the size and the shape of the source tree; the last line is JSON. Run by `make house`.

    python -m tools.house [--lists]

`--lists` also prints what the figures count: long folders, cycles, repeated class names, and the files of the two trips. The
checks in `tools` count in every figure but `product_lines`.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import statistics
from collections import Counter
from pathlib import Path
from typing import Any, Final

from tools.lint_names import repeated_class_names
from tools.source_tree import Module, import_cycles, read_modules

_ROOT: Final = Path(__file__).resolve().parents[1]
_FOLDER_LIMIT: Final = 16
# A step of a trip: "3. `agents/handler.py` - ...", in a docstring or on a page.
_STEP: Final = re.compile(r"^\s*\d+\.\s+`([\w/.]+\.py)`", re.MULTILINE)


def trip_files(text: str) -> list[str]:
    """Return the distinct files that the numbered steps in `text` name, in their order."""
    return list(dict.fromkeys(_STEP.findall(text)))


def _event_trip(modules: dict[str, Module]) -> list[str]:
    return trip_files(ast.get_docstring(modules["stream_app"].tree) or "")


def _feature_trip(root: Path) -> list[str]:
    page = root / "docs" / "life-of-a-feature.md"
    return trip_files(page.read_text(encoding="utf-8")) if page.exists() else []


def _long_folders(modules: dict[str, Module]) -> list[str]:
    count = Counter(str(module.path.parent) for module in modules.values())
    return sorted(f"{folder} ({number})" for folder, number in count.items() if number > _FOLDER_LIMIT)


def _function_lines(modules: dict[str, Module]) -> list[int]:
    """Count each function's lines without its docstring."""
    lines = []
    for module in modules.values():
        for node in module.functions:
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node, clean=False) is not None:
                first = node.body[0]
                assert first.end_lineno is not None
                length -= first.end_lineno - first.lineno + 1
            lines.append(length)
    return lines


def _percentile_90(values: list[int]) -> int:
    return int(statistics.quantiles(values, n=10, method="inclusive")[-1])


def figures(root: Path) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Return the figures of a checkout, and the lists behind those that count something."""
    modules = read_modules(root)
    tests = read_modules(root, ("tests",))
    lists: dict[str, list[Any]] = {
        "folders_over_16": _long_folders(modules),
        "import_cycles": import_cycles(modules),
        "duplicate_class_names": repeated_class_names(modules),
        "event_trip_files": _event_trip(modules),
        "feature_trip_files": _feature_trip(root),
    }
    file_lines = [module.lines for module in modules.values()]
    tool_lines = sum(module.lines for module in modules.values() if module.path.parts[0] == "tools")
    return {
        "product_lines": sum(file_lines) - tool_lines,
        "test_lines": sum(module.lines for module in tests.values()),
        "tool_lines": tool_lines,
        "files": len(modules),
        **{name: len(entries) for name, entries in lists.items()},
        "median_file_lines": int(statistics.median(file_lines)),
        "p90_file_lines": _percentile_90(file_lines),
        "p90_function_lines": _percentile_90(_function_lines(modules)),
    }, lists


def main() -> None:
    """Print the figures of this checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lists", action="store_true", help="Print what the figures count, before the line of JSON.")
    options = parser.parse_args()
    values, lists = figures(_ROOT)
    if options.lists:
        for name, entries in lists.items():
            print(f"{name}:", *(f"\n  {entry}" for entry in entries))
    print(json.dumps(values))


if __name__ == "__main__":
    main()
