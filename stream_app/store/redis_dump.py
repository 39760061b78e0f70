"""Reads one group's whole state at one point in time, for `millrace snapshot`: one script that scans all keys of the server.

The server does nothing else meanwhile: about a second for a million keys. Only the group's own blobs are returned.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from stream_app.features.state.blobs import Blobs
from stream_app.store.port import GroupDump
from stream_app.store.redis_layout import answers_head, group_head, kind_of

Command = Callable[..., Awaitable[Any]]  # runs one command at the group's server, like redis-py's execute_command, with retries

# KEYS: meta, commit, outbox. ARGV: prefix of the group's keys, prefix of its payloads' keys. Returns meta, the commit number,
# names and values. Blobs are the only strings of a group beside the commit number and payloads.
_DUMP: Final = """
local own, payloads = ARGV[1], ARGV[2]
local skipped = {[KEYS[1]] = true, [KEYS[2]] = true, [KEYS[3]] = true}
local names, seen, cursor = {}, {}, '0'
repeat
  local found = redis.call('SCAN', cursor, 'MATCH', own .. '*', 'COUNT', 10000, 'TYPE', 'string')
  cursor = found[1]
  for _, name in ipairs(found[2]) do
    if not skipped[name] and not seen[name] and string.sub(name, 1, #payloads) ~= payloads then
      seen[name] = true
      names[#names + 1] = name
    end
  end
until cursor == '0'
local values = {}
for i = 1, #names do
  values[i] = redis.call('GET', names[i])
end
return {redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[2]) or '0', names, values}
"""


async def dump(command: Command, prefix: str, group: int) -> GroupDump:
    """Read the group's position and the blobs of all its entities."""
    head = group_head(prefix, group)
    keys = (f"{head}meta", f"{head}commit", f"{head}outbox")
    meta, commit, names, values = await command("EVAL", _DUMP, len(keys), *keys, head, answers_head(prefix, group))
    flat = meta if isinstance(meta, list) else [part for pair in meta.items() for part in pair]
    fields = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
    fronts = {name.removeprefix("front:"): int(value) for name, value in fields.items() if name.startswith("front:")}
    blobs: dict[str, dict[bytes, bytes]] = {}
    for name, value in zip(names, values, strict=True):
        if value is not None:  # else it expired while the script ran
            blobs.setdefault(kind_of(name), {})[bytes.fromhex(name.decode().rpartition(":")[2])] = value
    entities = {kind: (sorted(of_kind), Blobs.of([of_kind[key] for key in sorted(of_kind)])) for kind, of_kind in blobs.items()}
    return GroupDump(int(commit), fronts, entities)
