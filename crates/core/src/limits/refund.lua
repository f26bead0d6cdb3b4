-- Gives every key one unit back. KEYS and ARGV as in charge.lua.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for i, key in ipairs(KEYS) do
  local back = (tonumber(redis.call('GET', key)) or 0) - tonumber(ARGV[2 * i - 1])
  if back > now then
    redis.call('SET', key, string.format('%.0f', back), 'PX', math.ceil((back - now) / 1000))
  else
    redis.call('DEL', key)
  end
end
return 1
