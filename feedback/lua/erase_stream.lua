-- Puts a stream that was copied in place of the first, with what came to that one meanwhile.
-- KEYS: stream, its copy, a name to move the old one to    ARGV: the last entry that was looked at, how many were copied
-- Returns 1; 0 if it was done before (redis-py's silent retry).
local stream, copy, old, last, copied = KEYS[1], KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2])
if copied > 0 and redis.call('EXISTS', copy) == 0 then return 0 end
if copied == 0 and #redis.call('XRANGE', stream, last, last) == 0 then return 0 end
for _, entry in ipairs(redis.call('XRANGE', stream, '(' .. last, '+')) do
  redis.call('XADD', copy, entry[1], unpack(entry[2]))
end
local info, newest = redis.call('XINFO', 'STREAM', stream), nil
for index = 1, #info, 2 do
  if info[index] == 'last-generated-id' then newest = info[index + 1] end
end
redis.call('RENAME', stream, old)
if redis.call('EXISTS', copy) == 1 then
  redis.call('XSETID', copy, newest)
  redis.call('RENAME', copy, stream)
end
redis.call('UNLINK', old)
return 1
