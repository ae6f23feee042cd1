-- Records vouchers of one partition, each only if it is above the latest amount of an open channel.
--
-- KEYS[1]  seq: counts the accept calls of the partition; never goes back unless Redis lost data
-- KEYS[2]  accepted: the stream that the settler reads
-- KEYS[3…] state of each channel named below, once each
--
-- ARGV[1]  highest seq that the caller has seen
-- ARGV[2…] for each voucher: position of its channel among the states (1-based), channel id, amount (20 digits),
--          proof. Vouchers of one channel are taken in the order given.
--
-- Returns {seq, r1, r2, …}, a result for each voucher:
--   'A' recorded     'D' duplicate of the latest     'M' more than the capacity     'U' no such channel here
--   'S' stale, 'C' closing, 'X' closed, 'F' failed: followed by the latest amount (20 digits) and its proof
-- Returns {'lost', seq or ''} and writes nothing if the partition went back behind what the caller has seen, or is
-- halted (see halt.lua): then seq is no number.
--
-- Amounts are compared as texts of 20 digits: Lua numbers are doubles and cannot tell 2^53 from 2^53 + 1.

local values = redis.call('MGET', KEYS[1], unpack(KEYS, 3))
local seq = tonumber(values[1])
if not seq or seq < tonumber(ARGV[1]) then
  return {'lost', values[1] or ''}
end

local results, changed, entry = {0}, {}, {}
for i = 2, #ARGV, 4 do
  local at = tonumber(ARGV[i]) + 1
  local id, amount, proof = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local state = values[at]
  local result
  if not state then
    result = 'U'
  else
    local status, latest = string.sub(state, 1, 1), string.sub(state, 2, 21)
    if status ~= 'O' then
      result = status .. latest .. string.sub(state, 42)
    elseif amount == latest and proof == string.sub(state, 42) then
      result = 'D'
    elseif amount <= latest then
      result = 'S' .. latest .. string.sub(state, 42)
    elseif amount > string.sub(state, 22, 41) then
      result = 'M'
    else
      result = 'A'
      values[at] = 'O' .. amount .. string.sub(state, 22, 41) .. proof
      changed[at] = true
      entry[#entry + 1] = id
      entry[#entry + 1] = amount .. proof
    end
  end
  results[#results + 1] = result
end

if #entry > 0 then
  seq = seq + 1
  local writes = {KEYS[1], string.format('%.0f', seq)}
  for at in pairs(changed) do
    writes[#writes + 1] = KEYS[at + 1]
    writes[#writes + 1] = values[at]
  end
  redis.call('MSET', unpack(writes))
  redis.call('XADD', KEYS[2], '*', unpack(entry))
end
results[1] = seq
return results
