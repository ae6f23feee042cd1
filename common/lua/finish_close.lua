-- After fence.lua and books.lua. Marks a closing channel as closed, with the issuer's receipt for exactly the pinned amount.
--
-- KEYS[2] state   KEYS[3] channel   KEYS[4] due   KEYS[5] settled   KEYS[6] books
-- ARGV[2] channel id   ARGV[3] settled amount (20 digits)   ARGV[4] receipt, as JSON   ARGV[5] now, ms since 1970
-- ARGV[6] '1' if a journal is kept: then the stream of ended closes tells it of this one
--
-- Returns {'finished'}, {'already'} if it was closed for this amount before, {'mismatch', amount (20 digits)} if
-- another amount is pinned, or {'not_closing', status letter}.

local state = redis.call('GET', KEYS[2]) or ''
local status, amount = string.sub(state, 1, 1), string.sub(state, 2, 21)
if status ~= 'C' and status ~= 'X' then
  return {'not_closing', status}
end
if amount ~= ARGV[3] then
  return {'mismatch', amount}
end
if status == 'X' then
  return {'already'}
end
redis.call('SET', KEYS[2], 'X' .. string.sub(state, 2))
redis.call('HSET', KEYS[3], 'receipt', ARGV[4], 'closed_at', ARGV[5])
redis.call('HDEL', KEYS[3], 'last_error')
redis.call('ZREM', KEYS[4], ARGV[2])
close(KEYS[6], KEYS[3], amount, 'settled')
if ARGV[6] == '1' then
  redis.call('XADD', KEYS[5], '*', 'id', ARGV[2], 'amount', amount, 'receipt', ARGV[4])
end
return {'finished'}
