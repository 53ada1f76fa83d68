-- Note that work on some subjects begins, and tell which were begun before.
-- KEYS    one a subject (string), `<times begun> <call that begun it last>`
-- ARGV    1 seconds kept  2 a name of this call's own  3 1 to note also those that were begun before, else 0
-- Output  a number a subject: how often it was begun before this call, which may be sent twice
local before = {}
for i, key in ipairs(KEYS) do
  local times, last = string.match(redis.call('GET', key) or '0 ', '^(%d+) (.*)$')
  before[i] = tonumber(times) - (last == ARGV[2] and 1 or 0)
  if before[i] == 0 or ARGV[3] == '1' then
    redis.call('SET', key, string.format('%d %s', before[i] + 1, ARGV[2]), 'EX', ARGV[1])
  end
end
return before
