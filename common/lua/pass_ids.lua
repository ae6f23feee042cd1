-- After fence.lua. Sees to it that what is added to the streams from now on comes after what the journal holds of them,
-- also on a server whose clock is behind that of the one before: the journal goes by ids.
--
-- KEYS[2] accepted   KEYS[3] settled
-- ARGV[2] the last id that the journal holds of KEYS[2], ARGV[3] of KEYS[3]; '0-0' for none
--
-- Returns {'ok'}.

local function is_below(a, b)
  local a_ms, a_n = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_n = string.match(b, '^(%d+)-(%d+)$')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  return a_ms < b_ms or (a_ms == b_ms and tonumber(a_n) < tonumber(b_n))
end

for i = 2, 3 do
  local last = '0-0'
  if redis.call('EXISTS', KEYS[i]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[i])
    for f = 1, #info, 2 do
      if info[f] == 'last-generated-id' then
        last = info[f + 1]
      end
    end
  end
  if is_below(last, ARGV[i]) then
    -- Added and removed in one step: nobody reads it, and the id is used up.
    redis.call('XADD', KEYS[i], ARGV[i], 'id', 'used up')
    redis.call('XDEL', KEYS[i], ARGV[i])
  end
end
return {'ok'}
