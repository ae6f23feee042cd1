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
--   ? the state is of no known form
-- Returns {'lost', which partition (from 1), seq or ''} and writes nothing if a partition went back behind what the
-- caller has seen, or is halted (see halt.lua): then seq is no number.
--
-- Amounts are compared as texts of 20 digits: Lua numbers are doubles and cannot tell 2^53 from 2^53 + 1.

local n = tonumber(ARGV[1])
local m = #KEYS - 2 * n
local values = redis.call('MGET', unpack(KEYS, 1, n + m))
for p = 1, n do
  local seq = tonumber(values[p])
  if not seq or seq < tonumber(ARGV[3 * p - 1]) then
    return {'lost', p, values[p] or ''}
  end
end

local letters, seqs, details = {}, {}, {}
local entries, writes, latest = {}, {}, {}
local at = n
for p = 1, n do
  local entry, id_from = {}, tonumber(ARGV[3 * p + 1])
  for _ = 1, tonumber(ARGV[3 * p]) do
    at = at + 1
    local key, voucher = KEYS[at], ARGV[2 * n + 1 + at]
    local state = latest[key] or values[at]
    local letter = 'U'
    if state then
      local amount, before = string.sub(voucher, 1, 20), string.sub(state, 2, 21)
      letter = string.sub(state, 1, 1)
      if letter == 'O' then
        if amount <= before then
          local same = amount == before and string.sub(voucher, 21) == string.sub(state, 42)
          letter = same and 'D' or 'S'
        else
          letter = amount > string.sub(state, 22, 41) and 'M' or 'A'
        end
      elseif letter ~= 'C' and letter ~= 'X' and letter ~= 'F' then
        letter = '?'
      end
      if letter == 'A' then
        latest[key] = 'O' .. amount .. string.sub(state, 22, 41) .. string.sub(voucher, 21)
        entry[#entry + 1] = string.sub(key, id_from)
        entry[#entry + 1] = voucher
      elseif letter ~= 'D' and letter ~= 'M' then
        details[#details + 1] = before .. string.sub(state, 42)
      end
    end
    letters[at - n] = letter
  end
  seqs[p] = tonumber(values[p])
  if #entry > 0 then
    seqs[p] = seqs[p] + 1
    writes[#writes + 1] = KEYS[p]
    writes[#writes + 1] = string.format('%.0f', seqs[p])
    entries[p] = entry
  end
end

if #writes > 0 then
  for key, state in pairs(latest) do
    writes[#writes + 1] = key
    writes[#writes + 1] = state
  end
  redis.call('MSET', unpack(writes))
  for p, entry in pairs(entries) do
    redis.call('XADD', KEYS[n + m + p], '*', unpack(entry))
  end
end

local answer = {table.concat(letters)}
for p = 1, n do
  answer[p + 1] = seqs[p]
end
for i = 1, #details do
  answer[n + 1 + i] = details[i]
end
return answer
