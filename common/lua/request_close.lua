-- Notes that payer or payee asked for a close; the settler finds the channel due at once.
--
-- KEYS[1] state   KEYS[2] channel   KEYS[3] due
-- ARGV[1] channel id   ARGV[2] now, ms since 1970   ARGV[3] who asked
--
-- Returns the status letter of the channel, or '' if it is not known here.

local state = redis.call('GET', KEYS[1])
if not state then
  return ''
end
local status = string.sub(state, 1, 1)
if status == 'O' and redis.call('HSETNX', KEYS[2], 'close_requested_at', ARGV[2]) == 1 then
  redis.call('HSET', KEYS[2], 'close_requested_by', ARGV[3])
  redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
end
return status
