-- Writes what came of the next entries of the log, if nobody did so before.
-- KEYS: release-lease, release-evidence, release-voters
-- ARGV: owner, position before ('' if there is none), position, Evidence JSON, TTL of the voters, then hash and Voter
--       JSON of each person who is changed
-- Returns 1 if it stands so now, 0 if another holds the lease or was first.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
local found = redis.call('HMGET', KEYS[2], 'position', 'record')
if found[1] == ARGV[3] and found[2] == ARGV[4] then return 1 end  -- the Redis client's retry of this very call
if (found[1] or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], 'position', ARGV[3], 'record', ARGV[4])
for index = 6, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[index], ARGV[index + 1]) end
redis.call('EXPIRE', KEYS[3], ARGV[5])
return 1
