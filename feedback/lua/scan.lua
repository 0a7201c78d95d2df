-- Looks at some entries of the log, newest first, and shows the votes that were first given there, as they are now.
-- ARGV[3..]: the newest position to look at ('+', or '(' and a position), how many entries
-- KEYS[2]: the newest entry that only the archive holds
-- Returns {the oldest position looked at or '' if Redis holds no older, [view, ...], what KEYS[2] says or ''}.
local entries = redis.call('XREVRANGE', KEYS[1], ARGV[3], '-', 'COUNT', ARGV[4])
local views = {}
for _, entry in ipairs(entries) do
  if entry[2][1] == 'event' and #entry[2] == 2 then
    local found = newest(cjson.decode(entry[2][2]).id)
    if found then views[#views + 1] = view(found) end
  end
end
local more = #entries == tonumber(ARGV[4])
return {more and entries[#entries][1] or '', views, redis.call('GET', KEYS[2]) or ''}
