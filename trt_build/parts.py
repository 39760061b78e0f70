"""Cut a large file into parts that a narrow way takes, and join them again on the other side.

A list of parts (`parts.json`) names the file, its hash, and each part's; so that one that is missing or damaged is named.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from model.digest import file_sha256
from trt_build.errors import BuildError, RefusedError

__all__ = ["cut", "join"]

_LIST: Final = "parts.json"
_BLOCK: Final = 1 << 20


def cut(source: Path, folder: Path, most_bytes: int) -> list[Path]:
    """Cut `source` into parts of at most `most_bytes` in `folder`; return them, the list of parts last.

    Raises:
        BuildError: Parts would be too small to be of use.
    """
    if most_bytes < _BLOCK:
        raise BuildError(f"parts of {most_bytes:,} bytes: give at least {_BLOCK:,}")
    folder.mkdir(parents=True, exist_ok=True)
    whole, parts = hashlib.sha256(), []
    with source.open("rb") as file:
        for number in range(-(-source.stat().st_size // most_bytes)):
            part, digest, left = folder / f"{source.name}.{number:03d}", hashlib.sha256(), most_bytes
            with part.open("wb") as target:
                while left and (block := file.read(min(_BLOCK, left))):
                    left -= len(block)
                    target.write(block)
                    digest.update(block)
                    whole.update(block)
            parts.append({"name": part.name, "sha256": digest.hexdigest()})
    about = {"file": source.name, "sha256": whole.hexdigest(), "parts": parts}
    (folder / _LIST).write_text(json.dumps(about, indent=1) + "\n")
    return [*(folder / part["name"] for part in parts), folder / _LIST]


def join(folder: Path, target_folder: Path) -> Path:
    """Join the parts in `folder`; return the file in `target_folder`.

    Raises:
        RefusedError: A part is missing or damaged; the message names all of them.
    """
    try:
        about = json.loads((folder / _LIST).read_text())
    except (OSError, ValueError) as err:
        raise RefusedError(f"{folder / _LIST} cannot be read ({err}). Fix: carry it with the parts") from err
    wrong = [part["name"] for part in about["parts"] if not _is_whole(folder / part["name"], part["sha256"])]
    if wrong:
        raise RefusedError(f"parts are missing or damaged: {', '.join(wrong)}. Fix: carry these again")
    target_folder.mkdir(parents=True, exist_ok=True)
    target = target_folder / str(about["file"])
    with target.open("wb") as file:
        for part in about["parts"]:
            with (folder / part["name"]).open("rb") as piece:
                while block := piece.read(_BLOCK):
                    file.write(block)
    return target


def _is_whole(path: Path, sha256: str) -> bool:
    return path.exists() and file_sha256(path) == sha256
