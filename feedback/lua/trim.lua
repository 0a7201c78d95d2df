-- Gives up the log's oldest entries, and says how far. Runs alone, without common.lua.
-- KEYS[1]: the feedback stream, KEYS[2]: the newest entry that was given up
-- ARGV[1]: the newest entry to give up, ARGV[2]: the position right behind it
-- XTRIM comes first: Redis lets it through when memory is full, and then what the same script writes as well.
local gone = redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2])
redis.call('SET', KEYS[2], ARGV[1])
return gone
