"""Compare protocols that say what is used of TensorRT with the real bindings, in a process of their own.

A protocol's docstring begins with the name of the class that it describes, in backticks; that of the module has methods for
constructors and attributes for enumerations. pybind11 writes the signatures of all overloads into docstrings: those are read.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from types import ModuleType
from typing import Any

from tests.tensorrt_libraries import Library

MODULE = "tensorrt"

_LOOK = """
import json, sys
import tensorrt_bindings as trt
def look(cls):
    found = {}
    for name in dir(cls):
        member = getattr(cls, name)
        kind = "property" if isinstance(member, property) else "method" if callable(member) else "value"
        settable = isinstance(member, property) and member.fset is not None
        found[name] = {"kind": kind, "settable": settable, "doc": member.__doc__ or ""}
    return found
def of(path):
    value = trt
    for part in path.split("."):
        value = getattr(value, part, None)
    return value
names = json.load(sys.stdin)
print(json.dumps({"version": trt.__version__, "classes": {n: look(of(n)) if of(n) is not None else None for n in names}}))
"""


def in_process(library: Library, code: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python code in a new process that finds `library`; its paths stand before the process starts."""
    variables = {**os.environ, **library.environment()}
    return subprocess.run([sys.executable, "-c", code], input=given, env=variables, capture_output=True, text=True, check=False)


def described(module: ModuleType) -> dict[str, type]:
    """Return the protocols of a module by the name of what they describe; the module's own protocol as MODULE."""
    found: dict[str, type] = {}
    for value in vars(module).values():
        if inspect.isclass(value) and getattr(value, "_is_protocol", False) and value.__module__ == module.__name__:
            match = re.match(r"`([\w.]+)`", value.__doc__ or "")
            found[match.group(1) if match else MODULE] = value
    return found


def differences(library: Library, module: ModuleType) -> tuple[str, list[str]]:
    """Return the release that was looked at, and what in the module's protocols is not as in its bindings."""
    protocols = described(module)
    constructed = [name for name in vars(protocols[MODULE]) if not name.startswith("_")]
    names = sorted((protocols.keys() - {MODULE}) | set(constructed) | set(protocols[MODULE].__annotations__) - {"__version__"})
    done = in_process(library, _LOOK, json.dumps(names))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    wrong = [f"{name}: there is no such class" for name, members in found["classes"].items() if members is None]
    for name, protocol in protocols.items():
        members = found["classes"].get(name)
        if members:
            wrong += [f"{name}.{text}" for text in _of_class(protocol, members)]
    for name in constructed:
        members = found["classes"][name]
        if members:
            wrong += [f"{name}.{text}" for text in _of_method("__init__", getattr(protocols[MODULE], name), members)]
    return found["version"], wrong


def _of_class(protocol: type, members: dict[str, Any]) -> list[str]:
    is_enumeration = "an enumeration" in (protocol.__doc__ or "")
    wrong = [
        f"{name}: not there, or cannot be set"
        for name in vars(protocol).get("__annotations__", {})
        if name not in members or not (is_enumeration or members[name]["settable"])
    ]
    for name, value in vars(protocol).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            wrong += [] if members.get(name, {}).get("kind") == "property" else [f"{name}: no such property"]
        elif inspect.isfunction(value):
            wrong += _of_method(name, value, members)
    return wrong


def _of_method(name: str, ours: Any, members: dict[str, Any]) -> list[str]:
    if members.get(name, {}).get("kind") != "method":
        return [f"{name}: no such method"]
    parameters = list(inspect.signature(ours).parameters.values())[1:]
    overloads = _overloads(name, members[name]["doc"])
    if any(_fits(parameters, theirs) for theirs in overloads):
        return []
    return [f"{name}: we call it with {[p.name for p in parameters]}, it takes {overloads}"]


def _overloads(name: str, doc: str) -> list[list[tuple[str, bool]]]:
    """Return the parameters of each signature in a docstring, without self: name, and whether it has a default."""
    found = []
    for line in doc.splitlines():
        match = re.match(rf"(?:\d+\. )?{re.escape(name)}\((.*)\) -> ", line)
        if match and "*args" not in match.group(1):
            parts = _split(match.group(1))[1:]
            found.append([(part.partition(":")[0].strip(), _has_default(part)) for part in parts])
    return found


def _split(text: str) -> list[str]:
    """Split at commas that stand in no bracket."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[(<") - (character in "])>")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _has_default(part: str) -> bool:
    return " = " in part


def _fits(ours: list[inspect.Parameter], theirs: list[tuple[str, bool]]) -> bool:
    if len(ours) > len(theirs) or not all(default for _, default in theirs[len(ours) :]):
        return False
    return all(
        own.name == name or own.kind is inspect.Parameter.POSITIONAL_ONLY for own, (name, _) in zip(ours, theirs, strict=False)
    )
