-- Set a flag for some time unless somebody else has set it.
-- KEYS    1 flag (string)
-- ARGV    1 holder  2 lifetime, ms
-- Output  1 the flag is the holder's for the whole lifetime; 0 somebody else's
-- Run again by the same holder, also after a lost answer, it extends the lifetime.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 1
end
if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2]) then -- the server's clock was set back since: it shall not last for so much longer
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
