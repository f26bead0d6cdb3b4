-- KEYS: a value, and the generations that it depends on. ARGV: a new generation, how long one lives (ms), and the
-- generations that the caller's own copy is of.
-- Returns the generations, the time (ms), and the value unless the caller's copy is still good.
local generations = {}
for i = 2, #KEYS do
  local generation = redis.pcall('GET', KEYS[i])
  if type(generation) ~= 'string' then
    -- Evicted, expired, never there, or something else: a new one, of which no value is.
    generation = ARGV[1]
    redis.call('SET', KEYS[i], generation, 'PX', ARGV[2])
  end
  generations[#generations + 1] = generation
end
local now = redis.call('TIME')
local moment = string.format('%d', now[1] * 1000 + math.floor(now[2] / 1000))
local all = table.concat(generations, '.')
if all == ARGV[3] then
  return {all, moment}
end
local value = redis.pcall('GET', KEYS[1])
return {all, moment, type(value) == 'string' and value or ''}
