-- After fence.lua. Reads entries for the leader: reading moves the group's cursor, so it is fenced like a write.
--
-- KEYS[2] accepted
-- ARGV[2] group   ARGV[3] consumer   ARGV[4] most entries to return
-- ARGV[5] '>' for entries that no leader has read yet; an id for those after it that were read and never acknowledged
-- ARGV[6] payments after which no more entries are read   ARGV[7] entries that are read between two looks at that
--
-- Returns {'ok', {{id, {field, value, …}}, …}}.

local most, enough, at_once = tonumber(ARGV[4]), tonumber(ARGV[6]), tonumber(ARGV[7])
local entries, payments, after = {}, 0, ARGV[5]
while #entries < most and payments < enough do
  local count = math.min(at_once, most - #entries)
  local reply = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', count, 'STREAMS', KEYS[2], after)
  local read = reply and reply[1][2] or {}
  for _, entry in ipairs(read) do
    entries[#entries + 1] = entry
    -- One that was removed from the stream has no fields.
    payments = payments + (entry[2] and #entry[2] / 2 or 0)
  end
  if #read < count then
    break
  end
  if after ~= '>' then
    after = read[#read][1]
  end
end
return {'ok', entries}
