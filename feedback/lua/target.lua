-- All votes on one target, the superseded ones too, if Redis still holds the target and there are not too many.
-- KEYS[2]: target (completion or comparison)
-- ARGV[3]: how many votes at most
-- Returns {1, [view, ...]} in no order, or {0}: look through the log instead.
local most, views = tonumber(ARGV[3]), {}
local held = redis.call('HLEN', KEYS[2])
if held == 0 or held > most then return {0} end
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
  local id = string.sub(field, 1, 2) == 'v:' and redis.call('HGET', KEYS[2], field)
  while id do
    local found = newest(id)
    if not found or not found.event or #views == most then return {0} end
    views[#views + 1] = view(found)
    id = cjson.decode(found.event).supersedes
  end
end
return {1, views}
