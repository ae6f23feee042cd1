-- After fence.lua. Puts a closing channel off until its next attempt: the issuer gave no final answer.
--
-- KEYS[2] state   KEYS[3] channel   KEYS[4] due
-- ARGV[2] channel id   ARGV[3] time of the next attempt, ms since 1970   ARGV[4] what went wrong
--
-- Returns {'retry', attempts so far}, or {'not_closing', status letter}.

local status = string.sub(redis.call('GET', KEYS[2]) or '', 1, 1)
if status ~= 'C' then
  return {'not_closing', status}
end
redis.call('HSET', KEYS[3], 'last_error', ARGV[4])
redis.call('ZADD', KEYS[4], ARGV[3], ARGV[2])
return {'retry', redis.call('HINCRBY', KEYS[3], 'attempts', 1)}
