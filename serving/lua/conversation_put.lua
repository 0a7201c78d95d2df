-- One write of a conversation, if nobody wrote it since the writer read it.
-- KEYS: conversation, conversations (of its rater)
-- ARGV: id, record (JSON), title, digest of the record, revision that was read, life (s), most kept, prefix of conversations
-- Returns {1, revision, created, updated}; {0, what stands: record, revision, created, updated}; {-1}: it is not there.
-- What is written already is written: so a retry, the Redis client's silent one or the page's own, finds its own work.
local held = redis.call('HMGET', KEYS[1], 'record', 'digest', 'revision', 'created', 'updated')
local life, most = tonumber(ARGV[6]), tonumber(ARGV[7])
if held[1] and held[2] == ARGV[4] then return {1, held[3], held[4], held[5]} end
if held[1] and held[3] ~= ARGV[5] then return {0, held[1], held[3], held[4], held[5]} end
if not held[1] and ARGV[5] ~= '0' then return {-1} end

local clock = redis.call('TIME')
local now = clock[1] .. '.' .. string.format('%06d', clock[2])
local created, revision = held[4] or now, string.format('%d', ARGV[5] + 1)
redis.call('HSET', KEYS[1], 'record', ARGV[2], 'title', ARGV[3], 'digest', ARGV[4], 'revision', revision,
  'created', created, 'updated', now)
redis.call('EXPIRE', KEYS[1], life)
local milliseconds = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZADD', KEYS[2], milliseconds, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.0f', milliseconds - life * 1000))
redis.call('EXPIRE', KEYS[2], life)
for _, id in ipairs(redis.call('ZREVRANGE', KEYS[2], most, -1)) do
  redis.call('UNLINK', ARGV[8] .. id)
  redis.call('ZREM', KEYS[2], id)
end
return {1, revision, created, now}
