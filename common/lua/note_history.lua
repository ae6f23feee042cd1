-- After fence.lua. Adds a sample to the leader's history, and forgets the oldest beyond the bound.
--
-- KEYS[2] history
-- ARGV[2] samples to keep   ARGV[3] and on: field and value by turns
--
-- Returns {'ok'}.

redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[2], '*', unpack(ARGV, 3))
return {'ok'}
