-- Take jobs out of the waiting index; the users they leave behind go to the end of the turn.
-- KEYS    1 jobs (hash)  2 users (zset)  3 later (zset)
-- ARGV    1 prefix of the users' queues  2… ids
-- Output  nothing. Idempotent; unknown ids are ignored.
local jobs, users, later, prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1]

for i = 2, #ARGV do
  local id = ARGV[i]
  local record = redis.call('HGET', jobs, id)
  if record then
    local user = string.match(record, '^%S+ %S+ (.*)$')
    redis.call('HDEL', jobs, id)
    redis.call('ZREM', later, id)
    if redis.call('ZREM', prefix .. user, id) == 1 then
      if redis.call('EXISTS', prefix .. user) == 0 then
        redis.call('ZREM', users, user)
      else
        local last = redis.call('ZREVRANGE', users, 0, 0, 'WITHSCORES')
        redis.call('ZADD', users, tonumber(last[2] or 0) + 1, user)
      end
    end
  end
end
