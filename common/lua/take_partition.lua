-- After fence.lua. Shuts older leaders out of the partition and makes sure that the consumer group is there.
--
-- KEYS[2] accepted
-- ARGV[2] group
--
-- Returns {'ok'}.

local exists = false
if redis.call('EXISTS', KEYS[2]) == 1 then
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
    if group[2] == ARGV[2] then
      exists = true
    end
  end
end
if not exists then
  redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[2], '0', 'MKSTREAM')
end
return {'ok'}
