-- Takes an attempt back. KEYS: one a counter. ARGV: the attempt's moment.
for _, key in ipairs(KEYS) do
  local moments, found = {}, false
  for moment in string.gmatch(redis.call('GET', key) or '', '%d+') do
    if moment == ARGV[1] and not found then found = true else moments[#moments + 1] = moment end
  end
  if #moments == 0 then
    redis.call('DEL', key)
  elseif found then
    redis.call('SET', key, table.concat(moments, ','), 'PX', math.max(redis.call('PTTL', key), 1))
  end
end
return 1
