-- After fence.lua and books.lua. Puts into the books what the leader learned from entries, acknowledges them, and trims the stream
-- up to the oldest entry that is not acknowledged, never past it. All or nothing: a crash repeats it harmlessly.
--
-- The channels may be of several partitions where one server has them all: an entry names channels of any (see
-- accept.lua). In a cluster a call is for one. Each partition's own fence is asked.
--
-- KEYS[2] accepted   KEYS[3] dead
-- KEYS[4…n+3]        fence of each partition whose channels are named below
-- KEYS[n+4…2n+3]     due of each
-- KEYS[2n+4…3n+3]    books of each
-- KEYS[3n+4…]        channel hash of each channel, those of one partition together, in this order
--
-- ARGV[2] group
-- ARGV[3] n, the number of partitions, then for each: number of its channels, then for each of these: channel id, time
--         of its first unsettled payment ('' if none is new), time of its last one ('' likewise), when it is due, all in
--         ms since 1970, and the highest amount (20 digits) of these payments. Entries come from several streams in any
--         order: the earliest first, the latest last and the highest amount count.
-- then    number of entries to acknowledge, then their ids
-- then    number of these that are given up on, then for each: id, reason
--
-- Returns {'ok'}.

local KEYS, ARGV, call, tonumber = KEYS, ARGV, redis.call, tonumber
local at = 3
local function take()
  at = at + 1
  return ARGV[at - 1]
end

-- Returns what is new to the books (see between).
local function note(hash, due)
  local id, first_at, last_at, due_at, amount = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  at = at + 5
  local marks = call('HMGET', hash, 'closing_at', 'close_requested_at', 'first_at', 'last_at', 'booked')
  local high, low = 0, 0
  if first_at ~= '' then
    local first_before, last_before, booked = marks[3], marks[4], marks[5]
    booked = booked or call('HMGET', hash, 'settled_before')[1] or NOTHING
    if amount > booked then
      -- Below 10^12 Lua's numbers are exact, also the sum of a call's channels; above, in two parts.
      if amount < '00000001' then
        low = amount - booked
      else
        high, low = between(booked, amount)
      end
      booked = amount
    end
    if last_before and tonumber(last_before) > tonumber(last_at) then
      last_at = last_before
    end
    if first_before and tonumber(first_before) <= tonumber(first_at) then
      call('HSET', hash, 'last_at', last_at, 'booked', booked)
    else
      call('HSET', hash, 'first_at', first_at, 'last_at', last_at, 'booked', booked)
    end
  end
  -- A channel that is closing or closed keeps its own time; one that was asked to close may only come earlier.
  if not marks[1] then
    if marks[2] then
      call('ZADD', due, 'LT', due_at, id)
    else
      call('ZADD', due, due_at, id)
    end
  end
  return high, low
end

local n = tonumber(take())
for q = 1, n do
  local there = call('GET', KEYS[3 + q])
  if there and there > ARGV[1] then
    return {'fenced', there}
  end
  if there ~= ARGV[1] then
    call('SET', KEYS[3 + q], ARGV[1])
  end
end

local hash = 3 * n + 3
for q = 1, n do
  local high, low = 0, 0
  for _ = 1, tonumber(take()) do
    hash = hash + 1
    local new_high, new_low = note(KEYS[hash], KEYS[n + 3 + q])
    high, low = high + new_high, low + new_low
  end
  add(KEYS[2 * n + 3 + q], 'accepted', high, low)
  add(KEYS[2 * n + 3 + q], 'unsettled', high, low)
end

local acks = {}
for _ = 1, tonumber(take()) do
  acks[#acks + 1] = take()
end
for _ = 1, tonumber(take()) do
  local id, reason = take(), take()
  local found = call('XRANGE', KEYS[2], id, id)
  if #found > 0 then
    call('XADD', KEYS[3], '*', 'kind', 'entry', 'id', id, 'reason', reason, unpack(found[1][2]))
  end
end

if #acks > 0 then
  call('XACK', KEYS[2], ARGV[2], unpack(acks))
  local pending = call('XPENDING', KEYS[2], ARGV[2])
  local keep_from
  if pending[1] > 0 then
    keep_from = pending[2]
  else
    for _, group in ipairs(call('XINFO', 'GROUPS', KEYS[2])) do
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
  call('XTRIM', KEYS[2], 'MINID', keep_from)
end
return {'ok'}
