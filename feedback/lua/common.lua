-- What every feedback script begins with; the scripts' own text is appended.
-- KEYS[1]: the feedback stream. ARGV[1]: prefix of index buckets, ARGV[2]: prefix of comparison keys.
--
-- The log says everything; two things only make it quick to read. An index hash (in buckets, small enough for Redis to
-- keep them packed) maps a feedback id to `{entry}` or `{entry},s`: where its newest revision lies, and whether a later
-- vote superseded it. An entry that is a later revision carries `previous` and `first`, the entries of the revision
-- before it and of the first one. The index outlives the entries in Redis: what it names and the stream does not hold
-- lies in the archive.

local function bucket(id)
  return ARGV[1] .. string.sub(redis.sha1hex(id), 1, 3)
end

local function entry_at(position)
  local found = redis.call('XRANGE', KEYS[1], position, position)
  if #found == 0 then return nil end
  local fields = {position = position}
  for index = 1, #found[1][2], 2 do fields[found[1][2][index]] = found[1][2][index + 1] end
  return fields
end

-- The newest revision of a feedback id: {position, event (JSON), previous, first, where}, without event, previous and
-- first if it is archived; nil if there never was such a vote.
local function newest(id)
  local where = redis.call('HGET', bucket(id), id)
  if not where then return nil end
  local position = string.match(where, '^[^,]+')
  local found = entry_at(position) or {position = position}
  found.where = where
  return found
end

-- A vote as the API shows it: {event JSON, where, first, 0 if it concerns a comparison that is still blind, else 1}.
-- `open` may be given by who knows it already. An archived one: {'', where, '', 1}; its target is gone.
local function view(found, open)
  if not found.event then return {'', found.where, '', 1} end
  if open == nil then
    local target = cjson.decode(found.event).target
    open = target.type == 'completion'
      or redis.call('HEXISTS', ARGV[2] .. target.id, 'revealed') == 1
      or redis.call('EXISTS', ARGV[2] .. target.id) == 0
  end
  return {found.event, found.where, found.first or found.position, open and 1 or 0}
end

-- Whether a choice of the completion at this key says just this; false if Redis does not hold its text any more.
local function is_text_of(key, choice, text)
  local record = redis.call('HGET', key, 'record')
  if not record then return false end
  for _, answer in ipairs(cjson.decode(record).choices) do
    if answer.index == choice and answer.text == text then return true end
  end
  return false
end

-- cjson rounds numbers to 14 digits, so the time is spliced in.
local function stamped(json)
  local now = redis.call('TIME')
  return string.sub(json, 1, -2) .. ',"created_at":' .. now[1] .. string.format('.%06d', now[2]) .. '}'
end
