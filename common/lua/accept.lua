-- Records vouchers, each only if it is above the latest amount of an open channel. They may be of several partitions
-- where one server has them all; in a cluster a call is for one. What is recorded goes into one entry of one stream, as
-- it is the number of commands and not their size that a call costs: the entry stands in the stream of one of the call's
-- partitions, and may name channels of the others.
--
-- KEYS[1]        seq that counts the server's calls that recorded something: where one server has all partitions that of
--                the first, else that of the call's own. Never goes back unless Redis lost data
-- KEYS[2…m+1]    state of each voucher's channel
-- KEYS[m+2]      accepted of one of the partitions: the stream that takes the entry
--
-- ARGV[1]        what stands before the channel's id in the name of its state
-- ARGV[2]        the highest seq that the caller has seen
-- ARGV[3…m+2]    for each voucher: amount (20 digits) and proof, in one. Those of one channel are taken in this order.
-- ARGV[m+3]      which of them are followed, and what their payers call them; absent if none is
--
-- Returns {letters, seq, then for each letter but A, D, M and U: latest amount (20 digits) and proof}, where letters has
-- one letter a voucher:
--   A recorded     D duplicate of the latest     M more than the capacity     U no such channel here
--   S stale        C closing                     X closed                     F failed
--   ? state of no known form
-- Returns {'lost', seq or ''} and writes nothing if the server went back behind what the caller has seen, or is halted
-- (see halt.lua): then seq is no number.
--
-- Amounts are compared as texts of 20 digits: Lua numbers are doubles and cannot tell 2^53 from 2^53 + 1.

local KEYS, ARGV, call, find, sub, tonumber = KEYS, ARGV, redis.call, string.find, string.sub, tonumber
local before_id, last = ARGV[1], #KEYS - 1
local values = call('MGET', unpack(KEYS, 1, last))
local seq = tonumber(values[1])
if not seq or seq < tonumber(ARGV[2]) then
  return {'lost', values[1] or ''}
end

local letters, details = {}, {}
-- Names and values by turns: states to write, of which the last one of a name counts, and fields of the entry.
local writes, entry, written = {}, {}, 0
local latest = {}
for at = 2, last do
  local key, voucher = KEYS[at], ARGV[at + 1]
  local state = latest[key] or values[at]
  local letter = 'U'
  if state then
    local amount, before = sub(voucher, 1, 20), sub(state, 2, 21)
    letter = sub(state, 1, 1)
    if letter == 'O' then
      local capacity = sub(state, 22, 41)
      if amount <= before then
        letter = amount == before and sub(voucher, 21) == sub(state, 42) and 'D' or 'S'
      elseif amount > capacity then
        letter = 'M'
      else
        letter = 'A'
        state = 'O' .. amount .. capacity .. sub(voucher, 21)
        latest[key] = state
        local _, id_after = find(key, before_id, 1, true)
        writes[written + 1], writes[written + 2] = key, state
        entry[written + 1], entry[written + 2] = sub(key, id_after + 1), voucher
        written = written + 2
      end
    elseif letter ~= 'C' and letter ~= 'X' and letter ~= 'F' then
      letter = '?'
    end
    if letter ~= 'A' and letter ~= 'D' and letter ~= 'M' then
      details[#details + 1] = before .. sub(state, 42)
    end
  end
  letters[at - 1] = letter
end

if written > 0 then
  -- Redis writes a whole number down digit by digit up to 2^53: no text has to be made of it here.
  seq = seq + 1
  writes[written + 1], writes[written + 2] = KEYS[1], seq
  call('MSET', unpack(writes))
  -- Nothing is added where no payment is followed.
  entry[written + 1], entry[written + 2] = ARGV[last + 2] and 'trail', ARGV[last + 2]
  call('XADD', KEYS[last + 1], '*', unpack(entry))
end
return {table.concat(letters), seq, unpack(details)}
