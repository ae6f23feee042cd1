-- Gives a lease back and tells the standbys, so that none of them waits for it to run out.
--
-- KEYS[1] lease
-- ARGV[1] holder   ARGV[2] Pub/Sub channel of the notice
--
-- Returns 1, or 0 if the caller did not hold it any more.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], 'released')
return 1
