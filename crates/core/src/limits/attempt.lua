-- Charges every key one attempt, or none of them. KEYS: one a counter. ARGV: of each the failures that are free, and how long
-- one is remembered, in microseconds. A key holds the moments of its failures, the oldest first. Answers 1 or 0 and the
-- attempt's moment; then of each key its failures, the wait until an attempt is let in, and the time until the oldest failure is
-- forgotten. As Rule in failures.rs.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer, lists = {1, now}, {}
for i, key in ipairs(KEYS) do
  local most, window = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local list, wait = {}, 0
  for text in string.gmatch(redis.call('GET', key) or '', '%d+') do
    -- What is yet to come was written before Redis's clock was set back.
    local moment = math.min(tonumber(text), now)
    if moment + window > now then list[#list + 1] = moment end
  end
  while #list > most do table.remove(list, 1) end
  if #list == most then wait = list[1] + window - now end
  if wait > 0 then answer[1] = 0 end
  answer[3 * i], answer[3 * i + 1], lists[i] = #list, math.max(wait, 0), list
end
for i, key in ipairs(KEYS) do
  local list, window, moments = lists[i], tonumber(ARGV[2 * i]), {}
  if answer[1] == 1 then
    list[#list + 1] = now
    answer[3 * i], answer[3 * i + 1] = #list, 0
  end
  answer[3 * i + 2] = (list[1] or now) + window - now
  for place, moment in ipairs(list) do moments[place] = string.format('%.0f', moment) end
  if #list > 0 then redis.call('SET', key, table.concat(moments, ','), 'PX', math.ceil(window / 1000)) end
end
return answer
