-- Puts back a voucher that Redis has lost, onto a partition that is halted: nobody else writes there meanwhile.
--
-- KEYS[1] seq   KEYS[2] accepted   KEYS[3] state   KEYS[4] channel   KEYS[5] due
--
-- ARGV[1] channel id   ARGV[2] amount (20 digits)   ARGV[3] its proof   ARGV[4] capacity (20 digits)
-- ARGV[5] terms, as JSON   ARGV[6] amount that the issuer has already paid (20 digits)
-- ARGV[7] when the settler must look at the channel, ms since 1970
-- ARGV[8] '1' if the issuer has paid the amount: then also a channel that is closing for less takes it
--
-- Returns {'not_halted'}; {'known', amount} if the amount is no higher than the latest; {'over'} above the capacity;
-- {'not_open', amount} if the channel has begun to close, or has ended; {'taken', amount before}.

local seq = redis.call('GET', KEYS[1]) or ''
if string.sub(seq, 1, 7) ~= 'halted:' then
  return {'not_halted'}
end
local state = redis.call('GET', KEYS[3])
local latest = state and string.sub(state, 2, 21) or string.rep('0', 20)
local capacity = state and string.sub(state, 22, 41) or ARGV[4]
if ARGV[2] <= latest then
  return {'known', latest}
end
local status = state and string.sub(state, 1, 1) or 'O'
if status ~= 'O' and not (status == 'C' and ARGV[8] == '1') then
  return {'not_open', latest}
end
if ARGV[2] > capacity then
  return {'over', latest}
end
if not state then
  redis.call('HSET', KEYS[4], 'terms', ARGV[5], 'settled_before', ARGV[6])
end
redis.call('SET', KEYS[3], status .. ARGV[2] .. capacity .. ARGV[3])
redis.call('ZADD', KEYS[5], ARGV[7], ARGV[1])
redis.call('XADD', KEYS[2], '*', ARGV[1], ARGV[2] .. ARGV[3])
return {'taken', latest}
