-- After fence.lua. Reads entries for the leader: reading moves the group's cursor, so it is fenced like a write.
--
-- KEYS[2] accepted
-- ARGV[2] group   ARGV[3] consumer   ARGV[4] most entries to return
-- ARGV[5] '>' for entries that no leader has read yet; an id for those after it that were read and never acknowledged
--
-- Returns {'ok', {{id, {field, value, …}}, …}}.

local reply = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', ARGV[4], 'STREAMS', KEYS[2], ARGV[5])
if not reply then
  return {'ok', {}}
end
return {'ok', reply[1][2]}
