-- Reads a channel whole: hash and state of one moment. Changes nothing.
--
-- KEYS[1] state   KEYS[2] channel
-- ARGV[1] and on: fields of the channel hash
--
-- Returns {state, {value of each field, or nil}}, or {} if the channel is not known here.

local state = redis.call('GET', KEYS[1])
if not state then
  return {}
end
return {state, redis.call('HMGET', KEYS[2], unpack(ARGV))}
