-- After fence.lua and books.lua. Gives up on a closing channel that the issuer refuses for good: kept, listed, never dropped.
--
-- KEYS[2] state   KEYS[3] channel   KEYS[4] due   KEYS[5] dead   KEYS[6] settled   KEYS[7] books
-- ARGV[2] channel id   ARGV[3] now, ms since 1970   ARGV[4] the issuer's words
-- ARGV[5] '1' if a journal is kept: then the stream of ended closes tells it of this one
--
-- Returns {'failed'}, or {'not_closing', status letter}.

local state = redis.call('GET', KEYS[2]) or ''
local status = string.sub(state, 1, 1)
if status ~= 'C' then
  return {'not_closing', status}
end
redis.call('SET', KEYS[2], 'F' .. string.sub(state, 2))
redis.call('HSET', KEYS[3], 'last_error', ARGV[4], 'failed_at', ARGV[3])
redis.call('ZREM', KEYS[4], ARGV[2])
close(KEYS[7], KEYS[3], string.sub(state, 2, 21), 'dead')
local letter = redis.call('XADD', KEYS[5], '*', 'kind', 'close', 'id', ARGV[2], 'reason', ARGV[4], 'amount', string.sub(state, 2, 21))
-- So that it is found when a person has the channel tried again (see retry_failed.lua).
redis.call('HSET', KEYS[3], 'dead_letter', letter)
if ARGV[5] == '1' then
  redis.call('XADD', KEYS[6], '*', 'id', ARGV[2], 'amount', string.sub(state, 2, 21), 'reason', ARGV[4])
end
return {'failed'}
