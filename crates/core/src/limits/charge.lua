-- Charges every key one unit, or none of them. KEYS: one a counter. ARGV: the interval and the capacity of each, in
-- microseconds. A key holds the moment when all its units are back. Answers 1 or 0, then what each had spent before.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = {1}
for i, key in ipairs(KEYS) do
  local interval, capacity = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local back = tonumber(redis.call('GET', key)) or now
  local spent = math.min(math.max(back - now, 0), capacity)
  if spent + interval > capacity then answer[1] = 0 end
  answer[i + 1] = spent
end
if answer[1] == 1 then
  for i, key in ipairs(KEYS) do
    local spent = answer[i + 1] + tonumber(ARGV[2 * i - 1])
    redis.call('SET', key, string.format('%.0f', now + spent), 'PX', math.ceil(spent / 1000))
  end
end
return answer
