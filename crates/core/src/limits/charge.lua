-- Charges every key one unit, or none of them. KEYS: one a counter. ARGV: the interval and the capacity of each, in
-- microseconds. A key holds the moment when all its units are back. Answers 1 or 0, then what each had spent before.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = {1}
local function keep(key, spent)
  redis.call('SET', key, string.format('%.0f', now + spent), 'PX', math.ceil(spent / 1000))
end
for i, key in ipairs(KEYS) do
  local interval, capacity = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local back = tonumber(redis.call('GET', key)) or now
  local spent = math.max(back - now, 0)
  if spent > capacity then
    -- Redis's clock was set back. What is spent is now written by the new time, so that it comes back within a window.
    spent = capacity
    keep(key, spent)
  end
  if spent + interval > capacity then answer[1] = 0 end
  answer[i + 1] = spent
end
if answer[1] == 1 then
  for i, key in ipairs(KEYS) do keep(key, answer[i + 1] + tonumber(ARGV[2 * i - 1])) end
end
return answer
