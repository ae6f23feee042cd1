-- Stops everyone on a partition, whoever was or was not there when its data was lost: who pays or begins a close finds no
-- number in seq, and no token is above the mark in fence. Changes nothing on a partition that is halted already.
--
-- KEYS[1] seq   KEYS[2] fence; left out by a relayer, which has no business there: settlers meet the mark in seq
-- ARGV[1] why, for whoever finds it
--
-- Returns 1, or 0 if it was halted before.

local changed = 0
for i = 1, #KEYS do
  local value = redis.call('GET', KEYS[i]) or ''
  if string.sub(value, 1, 7) ~= 'halted:' then
    redis.call('SET', KEYS[i], 'halted:' .. value .. ':' .. ARGV[1])
    changed = 1
  end
end
return changed
