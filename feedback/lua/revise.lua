-- Appends a revision of a vote, if nothing happened to the vote since the caller looked at it.
-- KEYS[2]: a key of this call's own, so that redis-py's silent retry finds what the first attempt did
-- KEYS[3]: for a correction, the completion that it corrects
-- ARGV[3..]: feedback id, what its index said when the caller looked, the revision (JSON without created_at), life of
--            this call's key (s), where its first revision lies, for a correction that is not withdrawn: index of the
--            choice
-- Returns {'done', view}, or {'moved'} or {'unchanged'}.
local id, where, json = ARGV[3], ARGV[4], ARGV[5]

local function done(position)
  local found = entry_at(position)
  found.where = position .. (string.match(where, ',s$') or '')
  return {'done', view(found)}
end

local earlier = redis.call('GET', KEYS[2])
if earlier then return done(earlier) end
if redis.call('HGET', bucket(id), id) ~= where then return {'moved'} end
if ARGV[8] and is_text_of(KEYS[3], tonumber(ARGV[8]), cjson.decode(json).value) then return {'unchanged'} end
local position = redis.call('XADD', KEYS[1], '*', 'event', stamped(json), 'previous', string.match(where, '^[^,]+'),
  'first', ARGV[7])
redis.call('HSET', bucket(id), id, position .. (string.match(where, ',s$') or ''))
redis.call('SET', KEYS[2], position, 'EX', ARGV[6])
return done(position)
