-- Whether some entries of the log hold a vote by a rater: a look at many, none of which is sent.
-- KEYS[2]: the newest entry that only the archive holds
-- ARGV[3..]: rater, the rater as JSON, the newest position to look at ('+', or '(' and a position), how many entries
-- Returns {1 if there is one, the oldest position looked at or '' if Redis holds no older, what KEYS[2] says or ''}.
local entries = redis.call('XREVRANGE', KEYS[1], ARGV[5], '-', 'COUNT', ARGV[6])
local named = {'"rater":' .. ARGV[4], '"rater":' .. cjson.encode(ARGV[3])} -- the two spell some letters differently
for _, entry in ipairs(entries) do
  local said = entry[2][1] == 'event' and entry[2][2]
  if said and (string.find(said, named[1], 1, true) or string.find(said, named[2], 1, true))
    and cjson.decode(said).rater == ARGV[3] then
    return {1, '', ''}
  end
end
local more = #entries == tonumber(ARGV[6])
return {0, more and entries[#entries][1] or '', redis.call('GET', KEYS[2]) or ''}
