-- How many of a user's jobs that are due go before one of them.
-- KEYS    1 jobs (hash)  2 the user's queue (zset)
-- ARGV    1 id  2 user
-- Output  the number, or nothing when the index does not have the job under this user
local record = redis.call('HGET', KEYS[1], ARGV[1])
local score, length, rest = string.match(record or '', '^(%S+) %S+ (%d+):(.*)$')
if not score or string.sub(rest, tonumber(length) + 1) ~= ARGV[2] then
  return false
end
return redis.call('ZRANK', KEYS[2], ARGV[1]) or redis.call('ZCOUNT', KEYS[2], '-inf', '(' .. score)
