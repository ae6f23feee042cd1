-- Gives a lease back and tells the standbys, so that none of them waits for it to run out. A release that arrives late
-- names a term that is over, and changes nothing.
--
-- KEYS[1] lease
-- ARGV[1] holder: `<process>:<term>`, see acquire_lease.lua   ARGV[2] Pub/Sub channel of the notice
--
-- Returns 1, or 0 if the caller did not hold it any more.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], 'released')
return 1
