-- Copy messages to the parked ones as they are, long values cut, and take them out of the intake.
-- KEYS    1 intake (stream)  2 parked (stream)
-- ARGV    1 group  2 messages kept at most  3 bytes kept of a value  4… ids
-- Output  number of messages parked; those that are gone already are left out, so it may run twice
local parked = 0
for i = 4, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    for n, value in ipairs(entry[2]) do
      entry[2][n] = string.sub(value, 1, tonumber(ARGV[3]))
    end
    redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[2], '*', 'id', ARGV[i], unpack(entry[2], 1, math.min(#entry[2], 100)))
    redis.call('XDEL', KEYS[1], ARGV[i])
    parked = parked + 1
  end
  redis.pcall('XACK', KEYS[1], ARGV[1], ARGV[i])
end
return parked
