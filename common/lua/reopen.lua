-- Lifts the halt of a partition. Changes nothing on one that works.
--
-- KEYS[1] seq   KEYS[2] fence
-- ARGV[1] where seq goes on: above whatever anyone has seen of it
-- ARGV[2] token (20 digits) below which nobody writes any more
--
-- Returns 1, or 0 if there was nothing to lift.

local seq = redis.call('GET', KEYS[1]) or ''
if tonumber(seq) then
  return 0
end
local before = tonumber(string.match(seq, '^halted:(%d+):') or '0')
redis.call('SET', KEYS[2], ARGV[2])
redis.call('SET', KEYS[1], string.format('%.0f', math.max(before + 1, tonumber(ARGV[1]))))
return 1
