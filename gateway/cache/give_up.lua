-- Ends a lead without an answer, if it is still ours.
--
-- KEYS[1]  assayline:cache:<hash>
-- ARGV[1]  our lease
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
return false
