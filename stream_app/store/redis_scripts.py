"""The Lua scripts of the Redis store, with the layout of its keys. Redis runs a script alone and whole.

Keys (`P` = configured prefix, `g` = partition group; the braces are Redis Cluster's hash tag, so that all a group owns is on
one shard):

    P:{g3}:meta          hash    epoch, epochs (drawn so far), front:<topic>
    P:{g3}:commit        string  how many steps were applied
    P:{g3}:outbox        hash    commit number -> payload
    P:{g3}:<kind>:<id>   string  packed state of one entity (its own users; its replica of a shared entity), with a TTL
    P:holders:<kind>:<id> string bitmap of the groups that hold a replica; only ever added to, so it needs no fence

The lines between `fence begin` and `fence end` are what keeps every counter from moving twice; the chaos tests run each
acceptance case once with and once without them.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CLAIM", "COMMIT", "PUBLISHED", "READ"]

CLAIM: Final = """
local epochs = redis.call('HINCRBY', KEYS[1], 'epochs', 1)
local epoch = epochs .. ':' .. ARGV[1]
redis.call('HSET', KEYS[1], 'epoch', epoch)
return {epoch, redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[2]) or '0', redis.call('HGETALL', KEYS[3])}
"""

# KEYS: meta, commit, outbox, then the state keys.
# ARGV: epoch, payload, number of topics, (topic, from, to)..., number of published, commit numbers...,
# (blob, ttl)... per state key
COMMIT: Final = """
local meta, counter, outbox = KEYS[1], KEYS[2], KEYS[3]
local topics = tonumber(ARGV[3])
local at = 4
-- fence begin
local epoch = redis.call('HGET', meta, 'epoch')
if epoch ~= ARGV[1] then return {'fenced', redis.call('GET', counter) or '0', 'epoch ' .. (epoch or 'none')} end
local exact, past = true, true
local detail = ''
for i = 0, topics - 1 do
  local topic, from, to = ARGV[at + 3 * i], ARGV[at + 3 * i + 1], ARGV[at + 3 * i + 2]
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
  return {past and 'repeated' or 'behind', redis.call('GET', counter) or '0', detail}
end
-- fence end
local commit = redis.call('INCR', counter)
for i = 0, topics - 1 do
  redis.call('HSET', meta, 'front:' .. ARGV[at + 3 * i], ARGV[at + 3 * i + 2])
end
at = at + 3 * topics
if ARGV[2] ~= '' then redis.call('HSET', outbox, commit, ARGV[2]) end
local published = tonumber(ARGV[at])
for i = 1, published do redis.call('HDEL', outbox, ARGV[at + i]) end
at = at + published + 1
for i = 4, #KEYS do
  redis.call('SET', KEYS[i], ARGV[at], 'PX', ARGV[at + 1])
  at = at + 2
end
return {'applied', tostring(commit), ''}
"""

PUBLISHED: Final = """
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
for i = 2, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
return 1
"""

# One consistent read. KEYS: commit counters of all groups, then the rows' own keys (all kinds, in order).
# ARGV: number of groups, prefix, then for each row that is shared: "kind:id" and its own group (they are the last rows of KEYS).
# Returns the counters, the own blobs, and for each shared row the list of the other groups' replicas.
READ: Final = """
local function mget(first, last)
  local out = {}
  local step = 4000
  for a = first, last, step do
    local part = redis.call('MGET', unpack(KEYS, a, math.min(a + step - 1, last)))
    for i = 1, #part do out[#out + 1] = part[i] end
  end
  return out
end
local groups, prefix = tonumber(ARGV[1]), ARGV[2]
local others = {}
for a = 3, #ARGV, 2 do
  local found = {}
  local bits = redis.call('GET', prefix .. ':holders:' .. ARGV[a])
  if bits then
    local own = tonumber(ARGV[a + 1])
    for byte = 1, #bits do
      local value = string.byte(bits, byte)
      if value ~= 0 then
        for bit = 0, 7 do
          local group = (byte - 1) * 8 + bit
          if math.floor(value / 2 ^ (7 - bit)) % 2 == 1 and group ~= own then
            local blob = redis.call('GET', prefix .. ':{g' .. group .. '}:' .. ARGV[a])
            if blob then found[#found + 1] = blob end
          end
        end
      end
    end
  end
  others[#others + 1] = found
end
return {mget(1, groups), mget(groups + 1, #KEYS), others}
"""
