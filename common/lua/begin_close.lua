-- After fence.lua and books.lua. Stops the channel and pins its latest voucher, in one step: no payment can come in
-- between. What of it no entry has brought to the books yet is entered. The state keeps amount and proof; from here on nothing but a receipt or a refusal of the issuer changes it.
--
-- KEYS[2] state   KEYS[3] channel   KEYS[4] seq   KEYS[5] books
-- ARGV[2] now, ms since 1970   ARGV[3] why
--
-- Returns {'fenced', seq} if the partition is halted (see halt.lua);
-- {status letter, amount (20 digits), proof}; {''} if the channel is not known. A channel that is closing
-- already gives back the voucher that was pinned first.

local seq = redis.call('GET', KEYS[4])
if not tonumber(seq) then
  return {'fenced', seq or 'halted::seq is gone'}
end
local state = redis.call('GET', KEYS[2])
if not state then
  return {''}
end
local status = string.sub(state, 1, 1)
if status == 'O' then
  status = 'C'
  redis.call('SET', KEYS[2], 'C' .. string.sub(state, 2))
  redis.call('HSET', KEYS[3], 'closing_at', ARGV[2], 'closing_reason', ARGV[3])
  enter(KEYS[5], KEYS[3], string.sub(state, 2, 21))
end
return {status, string.sub(state, 2, 21), string.sub(state, 42)}
