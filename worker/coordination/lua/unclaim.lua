-- Delete a flag if it is still the holder's.
-- KEYS    1 flag (string)
-- ARGV    1 holder
-- Output  1 deleted; 0 it is somebody else's, or over
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
