-- After books.lua. Takes a channel up again that was given up on: a person says that the issuer will settle it now. What is pinned stays
-- pinned, to the byte, so that whoever leads settles the same amount as before. Asks for no token: it is the word of a
-- person and not of a leader, it decides nothing about money, and each settlement that follows carries the leader's own.
--
-- KEYS[1] state   KEYS[2] channel   KEYS[3] due   KEYS[4] dead   KEYS[5] seq   KEYS[6] books
-- ARGV[1] channel id   ARGV[2] now, ms since 1970
--
-- Returns 'closing'; the status letter of a channel that has not failed, '' if it is not known here; or 'halted' if the
-- partition is (see halt.lua).

if not tonumber(redis.call('GET', KEYS[5])) then
  return 'halted'
end
local state = redis.call('GET', KEYS[1])
if not state then
  return ''
end
local status = string.sub(state, 1, 1)
if status ~= 'F' then
  return status
end
redis.call('SET', KEYS[1], 'C' .. string.sub(state, 2))
take_up(KEYS[6], KEYS[2], string.sub(state, 2, 21))
-- A dead letter of a build that did not write its id down stays in the list; it says nothing wrong of what was.
local letter = redis.call('HMGET', KEYS[2], 'dead_letter')[1]
if letter then
  redis.call('XDEL', KEYS[4], letter)
end
redis.call('HDEL', KEYS[2], 'failed_at', 'dead_letter')
redis.call('HSET', KEYS[2], 'retried_at', ARGV[2])
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
return 'closing'
