-- Takes the settler's lease if it is free, with the next fencing token. A holder that asks again keeps both.
--
-- KEYS[1] lease   KEYS[2] token
-- ARGV[1] holder   ARGV[2] time to live, ms
--
-- Returns {1, token} if the caller holds the lease now, {0, ms until it runs out} if someone else does.

local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {1, tonumber(redis.call('GET', KEYS[2]))}
end
if holder then
  return {0, redis.call('PTTL', KEYS[1])}
end
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, token}
