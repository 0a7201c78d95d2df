-- Forgets a completion that has ended: its record, its place in the list, its prompt. `deleted` tells the scheduler.
-- KEYS: completion, stored (of its tenant), prompts, deleted    ARGV: id
-- Returns 1; 0 if there is none, or it is still being written. The client's silent retry gives 1 again.
if redis.call('SISMEMBER', KEYS[4], ARGV[1]) == 1 then return 1 end
local held = redis.call('HMGET', KEYS[1], 'state', 'prompt')
if not held[1] or held[1] == 'streaming' then return 0 end
if held[2] then redis.call('XDEL', KEYS[3], held[2]) end
redis.call('UNLINK', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SADD', KEYS[4], ARGV[1])
return 1
