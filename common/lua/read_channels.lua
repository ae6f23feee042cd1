-- Reads channels whole: hash and state of one moment. They may be of several partitions where one server has them all;
-- in a cluster a call is for one. Changes nothing.
--
-- KEYS[1] state   KEYS[2] channel; and so on, two for each channel
-- ARGV[1] and on: fields of the channel hash
--
-- Returns for each channel {state, {value of each field, or nil}}, or {} if it is not known here.

local channels = {}
for i = 1, #KEYS, 2 do
  local state = redis.call('GET', KEYS[i])
  channels[#channels + 1] = state and {state, redis.call('HMGET', KEYS[i + 1], unpack(ARGV))} or {}
end
return channels
