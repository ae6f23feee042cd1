-- Comes before the body of every script that the settler writes with, in the same script.
--
-- KEYS[1] fence: highest fencing token (20 digits) that wrote to the partition
-- ARGV[1] the caller's token (20 digits)
--
-- Returns {'fenced', fence} from the whole script and writes nothing if a newer leader has been here.

local fence = redis.call('GET', KEYS[1])
if fence and fence > ARGV[1] then
  return {'fenced', fence}
end
if fence ~= ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1])
end
