-- Puts an entry of accepted payments that was given up on back into its stream, to be read once more: a person says that
-- it can be read now. Its payments are in the states already, so that this moves no money; whoever reads it puts it into
-- the books and the journal, or gives up on it again.
--
-- KEYS[1] dead   KEYS[2] accepted   KEYS[3] seq
-- ARGV[1] id of the dead letter
--
-- Returns {'requeued', id in accepted}, {'unknown'}, {'not_entry'} for a dead letter of another kind, or {'halted'}.

if not tonumber(redis.call('GET', KEYS[3])) then
  return {'halted'}
end
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then
  return {'unknown'}
end
-- As apply.lua writes it: kind, id and reason, then what stood in the entry.
local fields = found[1][2]
if fields[1] ~= 'kind' or fields[2] ~= 'entry' or #fields < 8 then
  return {'not_entry'}
end
local id = redis.call('XADD', KEYS[2], '*', unpack(fields, 7))
redis.call('XDEL', KEYS[1], ARGV[1])
return {'requeued', id}
