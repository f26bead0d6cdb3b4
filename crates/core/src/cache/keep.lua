-- KEYS: a value, and the generations that it depends on. ARGV: the generations that it was loaded in, how long it is good
-- for (ms), and the value.
-- Returns 1, or 0 where the data has changed since.
local generations = {}
for i = 2, #KEYS do
  generations[#generations + 1] = redis.call('GET', KEYS[i]) or ''
end
if table.concat(generations, '.') ~= ARGV[1] then
  return 0
end
local now = redis.call('TIME')
local expires = string.format('%d', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2])
redis.call('SET', KEYS[1], ARGV[1] .. '\n' .. expires .. '\n' .. ARGV[3], 'PX', ARGV[2])
return 1
