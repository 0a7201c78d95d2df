-- Forgets all conversations of a rater.    KEYS: conversations (of the rater)    ARGV: prefix of conversations
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('UNLINK', ARGV[1] .. id) end
return redis.call('UNLINK', KEYS[1])
