-- After fence.lua. Puts into the books what the leader learned from entries, acknowledges them, and trims the stream
-- up to the oldest entry that is not acknowledged, never past it. All or nothing: a crash repeats it harmlessly.
--
-- KEYS[2] accepted   KEYS[3] due   KEYS[4] dead   KEYS[5…] channel hash of each channel named below
--
-- ARGV[2] group
-- ARGV[3] number of channels, then for each: channel id, time of its first unsettled payment ('' if none is new), time
--         of its last one ('' likewise), when it is due; all in ms since 1970
-- then    number of entries to acknowledge, then their ids
-- then    number of these that are given up on, then for each: id, reason
--
-- Returns {'ok'}.

local at = 3
local function take()
  at = at + 1
  return ARGV[at - 1]
end

for i = 1, tonumber(take()) do
  local id, first_at, last_at, due_at = take(), take(), take(), take()
  local hash = KEYS[4 + i]
  local marks = redis.call('HMGET', hash, 'closing_at', 'close_requested_at', 'first_at')
  if first_at ~= '' then
    redis.call('HSET', hash, 'first_at', marks[3] or first_at, 'last_at', last_at)
  end
  -- A channel that is closing or closed keeps its own time; one that was asked to close may only come earlier.
  if not marks[1] then
    if marks[2] then
      redis.call('ZADD', KEYS[3], 'LT', due_at, id)
    else
      redis.call('ZADD', KEYS[3], due_at, id)
    end
  end
end

local acks = {}
for _ = 1, tonumber(take()) do
  acks[#acks + 1] = take()
end
for _ = 1, tonumber(take()) do
  local id, reason = take(), take()
  local found = redis.call('XRANGE', KEYS[2], id, id)
  if #found > 0 then
    redis.call('XADD', KEYS[4], '*', 'kind', 'entry', 'id', id, 'reason', reason, unpack(found[1][2]))
  end
end

if #acks > 0 then
  redis.call('XACK', KEYS[2], ARGV[2], unpack(acks))
  local pending = redis.call('XPENDING', KEYS[2], ARGV[2])
  local keep_from
  if pending[1] > 0 then
    keep_from = pending[2]
  else
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
      if group[2] == ARGV[2] then
        for i = 1, #group, 2 do
          if group[i] == 'last-delivered-id' then
            keep_from = group[i + 1]
          end
        end
      end
    end
    -- Everything delivered is acknowledged: the last delivered entry may go too.
    local ms, n = string.match(keep_from, '^(%d+)-(%d+)$')
    keep_from = ms .. '-' .. string.format('%.0f', tonumber(n) + 1)
  end
  redis.call('XTRIM', KEYS[2], 'MINID', keep_from)
end
return {'ok'}
