"""Write the state of a live deployment to a file, as the initial state of a replay.

Each group is read atomically: its state, offsets and commit number belong together. Groups are read one after the other, so while
workers run, one group's replica of a device may include an event that another group's replica lacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stream_app.clock import SystemClock
from stream_app.config import Settings
from stream_app.errors import ConfigError
from stream_app.replay.checkpoints.state_file import write_dumps
from stream_app.store.port import GroupDump, Store
from stream_app.wiring import build_engine, build_store, shared_kinds


def take_snapshot(
    settings: Settings, path: Path, progress: Callable[[int, str], None] = lambda _count, _note: None
) -> dict[str, Any]:
    """Write the state under the settings' redis.prefix to a file; Redis is only read.

    Returns:
        The file, its entities, and each group's commit number and fronts.

    Raises:
        StoreUnavailableError: Redis is unreachable.
        ConfigError: The file cannot be written; this is checked before Redis is read.
    """
    with _written_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(path.name + ".tmp")
        probe.touch()
        probe.unlink()
    engine = build_engine(settings)
    store = build_store(settings, shared_kinds(engine))
    dumps, layouts = asyncio.run(_read(store, settings.kafka.partitions, progress))
    with _written_to(path):
        count = write_dumps(path, dumps, engine, layouts, SystemClock().now_ms())
    groups = {str(group): {"commit": dump.commit, "fronts": dict(dump.fronts)} for group, dump in dumps.items()}
    return {"file": str(path), "entities": count, "catalogue_hash": engine.catalogue_hash, "groups": groups}


@contextmanager
def _written_to(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise ConfigError(f"cannot write {path}: {err.strerror}. Name a file in a folder that can be written") from err


async def _read(store: Store, groups: int, progress: Callable[[int, str], None]) -> tuple[dict[int, GroupDump], dict[str, str]]:
    try:
        layouts = await store.layouts({})
        dumps = {}
        for group in range(groups):
            progress(group, f"group {group}")
            dumps[group] = await store.dump(group)
    finally:
        await store.close()
    return dumps, layouts
