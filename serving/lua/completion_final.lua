-- The final record over the open one, its place in the list of stored completions, and its prompt for the gate.
-- KEYS: completion, stored (of its tenant), prompts, regenerated
-- ARGV: record, outline, state, window in s, id, created in ms or '' (keeps no text), request or '', prompt or '',
--   prompts kept, key of the completion that this one takes the place of, or ''
-- A record that is gone was deleted or erased meanwhile, and does not come back. Safe to be retried.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local window = tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'outline', ARGV[2], 'state', ARGV[3])
redis.call('EXPIRE', KEYS[1], window)
if ARGV[6] ~= '' then
  redis.call('ZADD', KEYS[2], ARGV[6], ARGV[5])
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. string.format('%.0f', tonumber(ARGV[6]) - window * 1000))
  redis.call('EXPIRE', KEYS[2], window)
end
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'request', ARGV[7]) end
if ARGV[8] ~= '' and redis.call('HEXISTS', KEYS[1], 'prompt') == 0 then
  local at = redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[9], '*', 'prompt', ARGV[8])
  redis.call('HSET', KEYS[1], 'prompt', at)
end
-- Somebody was not content with an answer: that counts once, against the version that wrote it, if it was theirs.
local before = ARGV[10] ~= '' and redis.call('HGET', ARGV[10], 'outline')
if before then
  local first, this = cjson.decode(before), cjson.decode(ARGV[2])
  local theirs = first.rater == this.rater and (first.tenant or '') == (this.tenant or '')
  if theirs and redis.call('HSETNX', ARGV[10], 'regenerated', ARGV[5]) == 1 then
    redis.call('HINCRBY', KEYS[4], string.format('%d', first.policy_version), 1)
  end
end
return 1
