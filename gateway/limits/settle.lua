-- Ends a reservation: frees its slot, and moves each bucket by what was used beyond what was reserved, or short of it.
-- Once: a second time, or after the holder's slots have lapsed, it does nothing.
--
-- KEYS[1]  ...:buckets   KEYS[2]  ...:slots   KEYS[3]  ...:held:<holder>
-- ARGV[1]  id   ARGV[2]  holder
-- ARGV[3]  name, difference in us, again and again
--
-- Returns 1, or 0 where there was nothing to end.
local held = redis.call('HGET', KEYS[3], ARGV[1])
if not held or held == 'ended' then
    return 0
end
redis.call('HSET', KEYS[3], ARGV[1], 'ended') -- a renewal that is sent once more must not bring it back
local field = ARGV[2] .. ' ' .. string.match(held, '%a+')
if redis.call('HINCRBY', KEYS[2], field, -1) <= 0 then
    redis.call('HDEL', KEYS[2], field)
end
for at = 3, #ARGV, 2 do
    local tat = redis.call('HGET', KEYS[1], ARGV[at])
    if tat then
        redis.call('HSET', KEYS[1], ARGV[at], string.format('%.0f', tat + ARGV[at + 1]))
    end
end
return 1
