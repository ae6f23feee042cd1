-- After fence.lua. Reads closes that ended, for the journal, and removes those that it holds already.
--
-- KEYS[2] settled
-- ARGV[2] remove entries below this id: one past the last that a stored segment holds
-- ARGV[3] return entries after this id   ARGV[4] most entries to return
--
-- Returns {'ok', {{id, {field, value, …}}, …}}.

redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2])
return {'ok', redis.call('XRANGE', KEYS[2], '(' .. ARGV[3], '+', 'COUNT', ARGV[4])}
