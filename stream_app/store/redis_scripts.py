"""The Lua scripts of the Redis store, with the layout of its keys. Redis runs a script alone and whole.

Keys (`P` = configured prefix, `g` = partition group; the braces are Redis Cluster's hash tag, so that all keys of a group are on
one shard):

    P:{g3}:meta          hash    epoch (<number>:<owner>:<token>), epochs (drawn so far), front:<topic>
    P:{g3}:commit        string  number of applied steps
    P:{g3}:outbox        hash    commit number -> "" while its payload is not published (before 0.2: -> payload)
    P:{g3}:answers:<n>   string  payload of commit n: without a TTL while it is in the outbox, with one afterwards
    P:{g3}:<kind>:<id>   string  packed state of one entity (a user, or the group's replica of a shared entity), with a TTL
    P:holders:<kind>:<id> string bitmap of the groups that hold a replica; bits are only added, so it needs no fence
    P:layouts            hash    layout tag -> its description; entries are only added
    P:topics             hash    source topic without prefix -> Kafka's id of it, as it was when the first front was kept

A read is one MGET and no script: Redis answers that four times as fast as a script that reads the same keys.

The lines between `fence begin` and `fence end` keep every counter from moving twice; the chaos tests run each acceptance case
once with and once without them.
"""

from __future__ import annotations

from typing import Final

# KEYS: meta, commit, outbox. ARGV: owner, token of this claim (a repeated claim with the same token draws no new epoch), prefix
# of the payloads' keys. Returns the epoch, meta, the commit number, the outbox's numbers, their payloads (nil: missing). An empty
# epoch in the reply: only one of meta and commit exists; nothing was written.
CLAIM: Final = """
local meta, counter, token = KEYS[1], KEYS[2], ARGV[2]
local commit, fields = redis.call('GET', counter), redis.call('HLEN', meta)
if (commit and fields == 0) or (not commit and fields > 2) then
  return {'', redis.call('HGETALL', meta), commit or '0', {}, {}}
end
local epoch = redis.call('HGET', meta, 'epoch')
if not epoch or string.sub(epoch, -#token) ~= token then
  epoch = redis.call('HINCRBY', meta, 'epochs', 1) .. ':' .. ARGV[1] .. ':' .. token
  redis.call('HSET', meta, 'epoch', epoch)
end
local outbox = redis.call('HGETALL', KEYS[3])
local numbers, payloads = {}, {}
for i = 1, #outbox, 2 do
  numbers[#numbers + 1] = outbox[i]
  payloads[#numbers] = outbox[i + 1] ~= '' and outbox[i + 1] or redis.call('GET', ARGV[3] .. outbox[i])
end
return {epoch, redis.call('HGETALL', meta), commit or '0', numbers, payloads}
"""

# Removes `numbers` from the outbox; their payloads expire after `kept` ms.
_LEAVE: Final = """
local function leave(outbox, payloads, numbers, kept)
  for i = 1, #numbers do
    if redis.call('HDEL', outbox, numbers[i]) == 1 then
      if kept ~= '0' then
        redis.call('PEXPIRE', payloads .. numbers[i], kept)
      else
        redis.call('UNLINK', payloads .. numbers[i])
      end
    end
  end
end
"""

# KEYS: meta, commit, outbox, then the keys of all blobs.
# ARGV: MessagePack of (epoch, [(topic, from, to)], [published commit], commit number that the step follows, ms to keep published
# answers, prefix of the payloads' keys, [(ttl ms, number of blobs)]), then the payload, then the blobs. Cutting keys and blobs
# out of long strings would cost more than arguments do; numbers are texts because Lua would format them for each call.
COMMIT: Final = (
    _LEAVE
    + """
local meta, counter, outbox = KEYS[1], KEYS[2], KEYS[3]
local step = cmsgpack.unpack(ARGV[1])
local ranges = step[2]
-- fence begin
local count, after = tonumber(redis.call('GET', counter) or '0'), step[4]
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
local published = {}
for i = 1, #step[3] do
  if step[3][i] < commit then published[#published + 1] = step[3][i] end
end
leave(outbox, step[6], published, step[5])
if ARGV[2] ~= '' then
  redis.call('SET', step[6] .. commit, ARGV[2])
  redis.call('HSET', outbox, commit, '')
end
local call, writes, at = redis.call, step[7], 3
for w = 1, #writes do
  local ttl = writes[w][1]
  for i = at + 1, at + writes[w][2] do
    call('SET', KEYS[i], ARGV[i - 1], 'PX', ttl)
  end
  at = at + writes[w][2]
end
return {'applied', tostring(commit), ''}
"""
)

# ARGV: MessagePack of [(key head, group, ttl ms, digits of an id, count)], then the ids in hex.
ANNOUNCE: Final = """
local new, ids, at = cmsgpack.unpack(ARGV[1]), ARGV[2], 1
for i = 1, #new do
  local head, group, ttl, digits = new[i][1], new[i][2], new[i][3], new[i][4]
  for _ = 1, new[i][5] do
    local index = head .. string.sub(ids, at, at + digits - 1)
    redis.call('SETBIT', index, group, 1)
    redis.call('PEXPIRE', index, ttl)
    at = at + digits
  end
end
"""

# KEYS: meta, outbox, commit. ARGV: epoch, prefix of the payloads' keys, ms to keep them, then commit numbers. The store has lost
# a number above the counter and will draw it again, for other answers.
PUBLISHED: Final = (
    _LEAVE
    + """
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
local count = tonumber(redis.call('GET', KEYS[3]) or '0')
local numbers = {}
for i = 4, #ARGV do
  if tonumber(ARGV[i]) > count then return 0 end
  numbers[i - 3] = ARGV[i]
end
leave(KEYS[2], ARGV[2], numbers, ARGV[3])
return 1
"""
)

# KEYS: layouts or topics. ARGV: tag, description, tag, ... Returns all tags with their descriptions.
REGISTER: Final = """
for i = 1, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end
return redis.call('HGETALL', KEYS[1])
"""

# KEYS: payload of a commit, outbox. ARGV: commit number, the payload as it was read, its replacement (or '').
# Returns 1 if it was replaced; 0 if it is missing or has changed since; -1 if it is in the outbox and was left.
PURGE: Final = """
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return -1 end
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  redis.call('UNLINK', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
end
return 1
"""
