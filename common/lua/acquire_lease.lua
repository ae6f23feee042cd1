-- Takes the settler's lease if it is free, with the next fencing token. A process that holds it keeps it: who asks again
-- within a term keeps the token too; who asks for a later term of its own takes the next token, at once.
--
-- KEYS[1] lease: `<process>:<term>` of its holder   KEYS[2] token
-- ARGV[1] process: a random id of a process start   ARGV[2] term: a number that rises with each term of that process
-- ARGV[3] time to live, ms
--
-- Returns {1, token} if the caller holds the lease now, for this term; {0, ms until it runs out} if someone else does, or
-- the same process for a later term, so that this question comes too late.

local asker = ARGV[1] .. ':' .. ARGV[2]
local holder = redis.call('GET', KEYS[1])
if holder == asker then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {1, tonumber(redis.call('GET', KEYS[2]))}
end
if holder then
  local process, term = string.match(holder, '^(.*):(%d+)$')
  if process ~= ARGV[1] or tonumber(term) > tonumber(ARGV[2]) then
    return {0, redis.call('PTTL', KEYS[1])}
  end
end
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], asker, 'PX', ARGV[3])
return {1, token}
