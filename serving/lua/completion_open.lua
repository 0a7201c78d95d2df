-- The records of completions that are starting, with the comparison that they are sides of.
-- KEYS: the completions, then the comparison if there is one
-- ARGV: window in s, then for each completion record, outline, state; then the comparison's record
-- Safe to be retried.
for place, key in ipairs(KEYS) do
  local at = 3 * place - 1
  if ARGV[at + 1] then
    redis.call('HSET', key, 'record', ARGV[at], 'outline', ARGV[at + 1], 'state', ARGV[at + 2])
  else
    redis.call('HSET', key, 'record', ARGV[at])
  end
  redis.call('EXPIRE', key, ARGV[1])
end
return #KEYS
