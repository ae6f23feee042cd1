-- Prolongs a lease that the caller still holds, in the same term.
--
-- KEYS[1] lease
-- ARGV[1] holder: `<process>:<term>`, see acquire_lease.lua   ARGV[2] time to live, ms
--
-- Returns 1, or 0 if the caller does not hold it any more.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
