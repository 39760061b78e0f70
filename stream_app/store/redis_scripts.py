"""The Lua scripts of the Redis store, with the layout of its keys. Redis runs a script alone and whole.

Keys (`P` = configured prefix, `g` = partition group; the braces are Redis Cluster's hash tag, so that all a group owns is on
one shard):

    P:{g3}:meta          hash    epoch (<number>:<owner>:<token>), epochs (drawn so far), front:<topic>
    P:{g3}:commit        string  how many steps were applied
    P:{g3}:outbox        hash    commit number -> payload
    P:{g3}:<kind>:<id>   string  packed state of one entity (its own users; its replica of a shared entity), with a TTL
    P:holders:<kind>:<id> string bitmap of the groups that hold a replica; only ever added to, so it needs no fence

The lines between `fence begin` and `fence end` are what keeps every counter from moving twice; the chaos tests run each
acceptance case once with and once without them.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ANNOUNCE", "CLAIM", "COMMIT", "PUBLISHED", "READ"]

# KEYS: meta, commit, outbox. ARGV: owner, token of this claim (a claim that is asked again under its token draws nothing).
# An empty epoch in the answer: meta or commit is gone and the other is not; nothing was written.
CLAIM: Final = """
local meta, counter, token = KEYS[1], KEYS[2], ARGV[2]
local commit, fields = redis.call('GET', counter), redis.call('HLEN', meta)
if (commit and fields == 0) or (not commit and fields > 2) then
  return {'', redis.call('HGETALL', meta), commit or '0', {}}
end
local epoch = redis.call('HGET', meta, 'epoch')
if not epoch or string.sub(epoch, -#token) ~= token then
  epoch = redis.call('HINCRBY', meta, 'epochs', 1) .. ':' .. ARGV[1] .. ':' .. token
  redis.call('HSET', meta, 'epoch', epoch)
end
return {epoch, redis.call('HGETALL', meta), commit or '0', redis.call('HGETALL', KEYS[3])}
"""

# KEYS: meta, commit, outbox; the state keys are in the packed argument and bear the same hash tag.
# ARGV: MessagePack of (epoch, [(topic, from, to)], [published commit], [(key head, ttl ms, [id])], commit number that the step
# follows), then the payload, then the blobs of all ids in order.
COMMIT: Final = """
local meta, counter, outbox = KEYS[1], KEYS[2], KEYS[3]
local step = cmsgpack.unpack(ARGV[1])
local ranges = step[2]
-- fence begin
local count, after = tonumber(redis.call('GET', counter) or '0'), step[5]
local epoch = redis.call('HGET', meta, 'epoch')
if epoch ~= step[1] then
  local drawn = tonumber(string.match(epoch or '', '^%d+') or '0')
  local lost = drawn < tonumber(string.match(step[1], '^%d+') or '0')
  return {lost and 'behind' or 'fenced', tostring(count), 'epoch ' .. (epoch or 'none') .. ', step of ' .. step[1]}
end
local exact, past = count == after, count > after
local detail = 'commit ' .. count .. ', step after ' .. after .. '; '
for i = 1, #ranges do
  local topic, from, to = ranges[i][1], ranges[i][2], ranges[i][3]
  local front = redis.call('HGET', meta, 'front:' .. topic)
  if front then
    if front ~= from then exact = false end
    if tonumber(front) < tonumber(to) then past = false end
    detail = detail .. topic .. ': front ' .. front .. ', step ' .. from .. '-' .. to .. '; '
  else
    past = false
  end
end
if not exact then
  return {past and 'repeated' or 'behind', tostring(count), detail}
end
-- fence end
local commit = redis.call('INCR', counter)
for i = 1, #ranges do
  redis.call('HSET', meta, 'front:' .. ranges[i][1], ranges[i][3])
end
local published = step[3]
for i = 1, #published do
  if published[i] < commit then redis.call('HDEL', outbox, published[i]) end
end
if ARGV[2] ~= '' then redis.call('HSET', outbox, commit, ARGV[2]) end
local writes, at = step[4], 3
for w = 1, #writes do
  local head, ttl, ids = writes[w][1], writes[w][2], writes[w][3]
  for i = 1, #ids do
    redis.call('SET', head .. ids[i], ARGV[at], 'PX', ttl)
    at = at + 1
  end
end
return {'applied', tostring(commit), ''}
"""

# ARGV: MessagePack of [(index key, group, ttl ms)].
ANNOUNCE: Final = """
local new = cmsgpack.unpack(ARGV[1])
for i = 1, #new do
  redis.call('SETBIT', new[i][1], new[i][2], 1)
  redis.call('PEXPIRE', new[i][1], new[i][3])
end
"""

# KEYS: meta, outbox, commit. ARGV: epoch, then commit numbers. A number above the counter is one that the store has lost and
# will draw again, for other answers.
PUBLISHED: Final = """
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
local count = tonumber(redis.call('GET', KEYS[3]) or '0')
for i = 2, #ARGV do
  if tonumber(ARGV[i]) > count then return 0 end
end
for i = 2, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
return 1
"""

# One consistent read. KEYS: commit counters of all groups.
# ARGV: MessagePack of (prefix, [own key], [("kind:id", own group)]); the rows that are shared are the last of the own keys.
# Returns the counters, the own blobs, and for each shared row the list of the other groups' replicas.
#
# A call from Lua costs more than what GET does, so the script makes few of them: all keys of a kind of question in one MGET.
READ: Final = """
local request = cmsgpack.unpack(ARGV[1])
local prefix, keys, shared = request[1], request[2], request[3]

local function mget(names)
  local out = {}
  for first = 1, #names, 4000 do
    local part = redis.call('MGET', unpack(names, first, math.min(first + 3999, #names)))
    for i = 1, #part do out[first + i - 1] = part[i] end
  end
  return out
end

local indexes = {}
for a = 1, #shared do indexes[a] = prefix .. ':holders:' .. shared[a][1] end
local bitmaps = mget(indexes)
local replicas, owner = {}, {}
for a = 1, #shared do
  local tail, group, bits = ':' .. shared[a][1], shared[a][2], bitmaps[a]
  if bits then
    for byte = 1, #bits do
      local value = string.byte(bits, byte)
      local other = byte * 8
      while value > 0 do
        other = other - 1
        if value % 2 == 1 and other ~= group then
          replicas[#replicas + 1] = prefix .. ':{g' .. other .. '}' .. tail
          owner[#owner + 1] = a
        end
        value = math.floor(value / 2)
      end
    end
  end
end
local blobs = mget(replicas)
local others = {}
for a = 1, #shared do others[a] = {} end
for i = 1, #replicas do
  if blobs[i] then
    local found = others[owner[i]]
    found[#found + 1] = blobs[i]
  end
end
return {redis.call('MGET', unpack(KEYS)), mget(keys), others}
"""
