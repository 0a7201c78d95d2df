-- Other labels for a completion that has ended; the record, which training reads, stays as it was.
-- KEYS: completion    ARGV: metadata
-- Returns 1; 0 if there is none.
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'streaming' then return 0 end
redis.call('HSET', KEYS[1], 'metadata', ARGV[1])
return 1
