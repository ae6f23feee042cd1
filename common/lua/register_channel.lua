-- Makes a channel known to its partition, before its first payment. Changes nothing if it is known already.
--
-- KEYS[1] seq that counts the server's accept calls (see accept.lua)   KEYS[2] state   KEYS[3] channel   KEYS[4] due
--
-- ARGV[1] highest seq that the caller has seen
-- ARGV[2] channel id
-- ARGV[3] capacity (20 digits)
-- ARGV[4] amount that the issuer has already paid (20 digits)   ARGV[5] the proof behind it, '' if none
-- ARGV[6] terms, as JSON
-- ARGV[7] when the settler must look at the channel even if it hears nothing, ms since 1970
--
-- Returns {'registered'}, {'known'}, {'behind', amount} if less is recorded than the issuer has paid, or
-- {'lost', seq or ''} if the server went back behind what the caller has seen, or is halted.

local seq = redis.call('GET', KEYS[1])
if (tonumber(seq) or -1) < tonumber(ARGV[1]) then
  return {'lost', seq or ''}
end
local state = redis.call('GET', KEYS[2])
if state then
  local amount = string.sub(state, 2, 21)
  return {amount < ARGV[4] and 'behind' or 'known', amount}
end
redis.call('SET', KEYS[2], 'O' .. ARGV[4] .. ARGV[3] .. ARGV[5])
redis.call('HSET', KEYS[3], 'terms', ARGV[6], 'settled_before', ARGV[4], 'booked', ARGV[4])
redis.call('ZADD', KEYS[4], ARGV[7], ARGV[2])
return {'registered'}
