-- Token buckets: a bucket holds at most `limit`, is full at first and gains `limit` a minute. It may go below nothing:
-- what a chat costs is known only when it has ended, and whoever overdrew waits until the debt is paid back.
local clock = redis.call('TIME')
local NOW = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local DAY = math.floor(NOW / 86400)
local KEPT = 400 * 86400

local function level(key, bucket, limit)
  local held = redis.call('HMGET', key, bucket, bucket .. '_at')
  if not held[1] then return limit end
  return math.min(limit, tonumber(held[1]) + math.max(0, NOW - tonumber(held[2])) * limit / 60)
end

local function draw(key, bucket, limit, amount)
  local left = level(key, bucket, limit) - amount
  redis.call('HSET', key, bucket, string.format('%.6f', left), bucket .. '_at', string.format('%.6f', NOW))
  redis.call('EXPIRE', key, 86400)
  return left
end

-- Milliseconds until a bucket at `left` holds `wanted`.
local function wait(left, wanted, limit)
  return math.max(0, math.ceil((wanted - left) * 60000 / limit))
end
