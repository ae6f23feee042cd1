-- Lifts the token counter above one that the issuer has seen, after Redis lost its own count.
--
-- KEYS[1] lease   KEYS[2] token
-- ARGV[1] holder: `<process>:<term>`, see acquire_lease.lua   ARGV[2] highest token that the issuer has seen
--
-- Returns the caller's new token, or 0 if the caller does not hold the lease: then the higher token is a successor's.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local token = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), tonumber(ARGV[2])) + 1
redis.call('SET', KEYS[2], string.format('%.0f', token))
return token
