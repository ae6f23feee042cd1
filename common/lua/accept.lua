-- Records vouchers, each only if it is above the latest amount of an open channel. They may be of several partitions
-- where one server has them all; in a cluster a call is for one.
--
-- KEYS[1…n]      seq of each partition: counts its accept calls; never goes back unless Redis lost data
-- KEYS[n+1…n+m]  state of each voucher's channel; vouchers of one partition stand together, in the order of KEYS[1…n]
-- KEYS[n+m+1…]   accepted of each partition: the stream that the settler reads
--
-- ARGV[1]        n, the number of partitions
-- ARGV[2…3n+1]   for each partition: the highest seq that the caller has seen, its number of vouchers, and where in the
--                names of its states the channel's id starts (from 1)
-- ARGV[3n+2…]    for each voucher: amount (20 digits) and proof, in one. Those of one channel are taken in this order.
--
-- Returns {letters, seq of each partition …, then for each letter but A, D, M and U: latest amount (20 digits) and proof},
-- where letters has one letter a voucher:
--   A recorded     D duplicate of the latest     M more than the capacity     U no such channel here
--   S stale        C closing                     X closed                     F failed
--   ? state of no known form
-- Returns {'lost', which partition (from 1), seq or ''} and writes nothing if a partition went back behind what the
-- caller has seen, or is halted (see halt.lua): then seq is no number.
--
-- Amounts are compared as texts of 20 digits: Lua numbers are doubles and cannot tell 2^53 from 2^53 + 1.

local KEYS, ARGV, call, sub, tonumber = KEYS, ARGV, redis.call, string.sub, tonumber
local n = tonumber(ARGV[1])
local m = #KEYS - 2 * n
local values = call('MGET', unpack(KEYS, 1, n + m))
for p = 1, n do
  local seq = tonumber(values[p])
  if not seq or seq < tonumber(ARGV[3 * p - 1]) then
    return {'lost', p, values[p] or ''}
  end
end

local answer, letters, details, entries = {}, {}, {}, {}
-- States and seqs to write, names and values by turns. Of a channel that is named again the last one counts.
local writes, written = {}, 0
local latest = {}
local at = n
for p = 1, n do
  local entry, length, id_from = {}, 0, tonumber(ARGV[3 * p + 1])
  for _ = 1, tonumber(ARGV[3 * p]) do
    at = at + 1
    local key, voucher = KEYS[at], ARGV[2 * n + 1 + at]
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
          writes[written + 1], writes[written + 2] = key, state
          written = written + 2
          entry[length + 1], entry[length + 2] = sub(key, id_from), voucher
          length = length + 2
        end
      elseif letter ~= 'C' and letter ~= 'X' and letter ~= 'F' then
        letter = '?'
      end
      if letter ~= 'A' and letter ~= 'D' and letter ~= 'M' then
        details[#details + 1] = before .. sub(state, 42)
      end
    end
    letters[at - n] = letter
  end
  local seq = tonumber(values[p])
  if length > 0 then
    seq = seq + 1
    writes[written + 1], writes[written + 2] = KEYS[p], string.format('%.0f', seq)
    written = written + 2
  end
  answer[p + 1], entries[p] = seq, entry
end

if written > 0 then
  call('MSET', unpack(writes))
  for p = 1, n do
    if #entries[p] > 0 then
      call('XADD', KEYS[n + m + p], '*', unpack(entries[p]))
    end
  end
end

answer[1] = table.concat(letters)
for i = 1, #details do
  answer[n + 1 + i] = details[i]
end
return answer
