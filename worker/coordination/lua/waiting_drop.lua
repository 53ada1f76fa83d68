-- Take jobs out of the waiting index; a user with none left in the queue has no turn any more.
-- KEYS    1 jobs (hash)  2 users (zset)  3 later (zset)  4 clock (hash, not used)
-- ARGV    1 prefix of the users' queues  2… ids
-- Output  nothing. Idempotent; unknown ids are ignored.
local jobs, users, later, prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1]

for i = 2, #ARGV do
  local id = ARGV[i]
  local record = redis.call('HGET', jobs, id)
  if record then
    local length, rest = string.match(record, '^%S+ %S+ (%d+):(.*)$')
    redis.call('HDEL', jobs, id)
    redis.call('ZREM', later, id)
    if length then
      local user = string.sub(rest, tonumber(length) + 1)
      if redis.call('ZREM', prefix .. user, id) == 1 and redis.call('EXISTS', prefix .. user) == 0 then
        redis.call('ZREM', users, user)
      end
    end
  end
end
