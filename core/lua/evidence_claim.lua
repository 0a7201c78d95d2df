-- Takes or renews the lease on advancing releases.
-- KEYS: release-lease    ARGV: owner, life (s)
-- Returns 1 if the owner holds it now.
local now = redis.call('TIME')
local seconds = tonumber(now[1]) + tonumber(now[2]) / 1e6
local lease = redis.call('HMGET', KEYS[1], 'owner', 'until')
if lease[1] and lease[1] ~= ARGV[1] and tonumber(lease[2]) > seconds then return 0 end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'until', string.format('%.6f', seconds + ARGV[2]))
return 1
