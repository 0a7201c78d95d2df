-- Who is at a survey: compare, then set with an expiry, or delete.
-- KEYS: lease    ARGV: new holder ('' to give it up), life (s), then the holders that may be replaced ('' for nobody)
-- Returns 1 if it is the new holder's now.
local held = redis.call('GET', KEYS[1]) or ''
local free = false
for index = 3, #ARGV do free = free or held == ARGV[index] end
if not free then return 0 end
if ARGV[1] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
return 1
