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
  if redis.call('EXISTS', KEYS[i]) == 0 then
    -- A stream that is emptied keeps its last id.
    if is_below('0-0', ARGV[i]) then
      redis.call('XADD', KEYS[i], ARGV[i], 'id', 'used up')
      redis.call('XTRIM', KEYS[i], 'MAXLEN', 0)
    end
  else
    local info = redis.call('XINFO', 'STREAM', KEYS[i])
    for f = 1, #info, 2 do
      if info[f] == 'last-generated-id' and is_below(info[f + 1], ARGV[i]) then
        redis.call('XSETID', KEYS[i], ARGV[i])
      end
    end
  end
end
return {'ok'}
