"""Parse the product's modules: their lines, classes, functions and imports. Reads files; imports nothing of the product."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

PRODUCT: Final = ("stream_app", "model", "trt_build", "training", "benchmarks", "verification", "devservices", "tools")

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One Python file.

    Attributes:
        name: Dotted name; a package's `__init__.py` has the package's name.
        path: Path of the file, relative to the checkout.
        text: Its source.
    """

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.text)

    @cached_property
    def lines(self) -> int:
        """Number of lines, as `wc -l` counts them."""
        return self.text.count("\n")

    @cached_property
    def classes(self) -> list[ast.ClassDef]:
        """Classes at the top level of the module."""
        return [node for node in self.tree.body if isinstance(node, ast.ClassDef)]

    @cached_property
    def functions(self) -> list[_Function]:
        """All functions and methods, nested ones included."""
        return [node for node in ast.walk(self.tree) if isinstance(node, _Function)]

    def imports(self, modules: dict[str, Module]) -> set[str]:
        """Return the modules of `modules` that this one imports anywhere: at its top, in functions, or for types alone."""
        names: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                below = {f"{node.module}.{alias.name}" for alias in node.names}
                names.update(below & modules.keys())
                if not below <= modules.keys():
                    names.add(node.module)
        return {name for name in names if name in modules and name != self.name}


def read_modules(root: Path, packages: tuple[str, ...] = PRODUCT) -> dict[str, Module]:
    """Read every Python file below the given packages of a checkout, by dotted name."""
    modules = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            relative = path.relative_to(root)
            parts = relative.parts[:-1] if path.name == "__init__.py" else relative.with_suffix("").parts
            name = ".".join(parts)
            modules[name] = Module(name, relative, path.read_text(encoding="utf-8"))
    return modules


def import_cycles(modules: dict[str, Module]) -> list[list[str]]:
    """Return the groups of modules that import one another, directly or over others (strongly connected components).

    Source: R. E. Tarjan, Depth-first search and linear graph algorithms, SIAM J. Comput. 1 (1972).
    """
    imports = {name: sorted(module.imports(modules)) for name, module in modules.items()}
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    cycles = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for target in imports[name]:
            if target not in number:
                visit(target)
            if target in stack:
                lowest[name] = min(lowest[name], lowest[target])
        if lowest[name] == number[name]:
            at = stack.index(name)
            component = stack[at:]
            del stack[at:]
            if len(component) > 1:
                cycles.append(sorted(component))

    for name in imports:
        if name not in number:
            visit(name)
    return sorted(cycles)
