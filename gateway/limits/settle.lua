-- Ends a reservation: frees its slot, moves each bucket by what was used beyond what was reserved, or short of it, and
-- tells the breaker how the call went. Once: a second time, or after the holder's slots have lapsed, it does nothing.
--
-- KEYS[1]  ...:buckets   KEYS[2]  ...:slots   KEYS[3]  ...:alive   KEYS[4]  ...:held:<holder>   KEYS[5]  ...:ceiling
-- KEYS[6]  ...:breaker
-- ARGV[1]  id   ARGV[2]  holder   ARGV[3]  the time in us, for tests; '' for the server's
-- ARGV[4]  works, fails, overloaded, rejected, exhausted or silent   ARGV[5], ARGV[6]  the epoch and the time it was admitted in
-- ARGV[7]  name, difference in us, again and again
--
-- Returns 1, or 0 where there was nothing to end.
local id, holder, health = ARGV[1], ARGV[2], ARGV[4]
local held = redis.call('HGET', KEYS[4], id)
if not held or held == 'ended' then
    return 0
end
local now, admitted, member = time_us(ARGV[3]), tonumber(ARGV[6]), holder .. '/' .. id
local breaker = breaker_at(KEYS[6], now)
if health == 'overloaded' and breaker.probe ~= member then
    -- Of one congestion only the first says something new. A probe goes alone: there is nothing to cut.
    if not ceiling_cut(KEYS[5], now, admitted, (open_calls(KEYS[2], KEYS[3], now))) then
        health = 'silent'
    end
elseif health == 'works' then
    ceiling_recovers(KEYS[5], now, admitted)
end
breaker_hears(breaker, now, member, ARGV[5], health)

redis.call('HSET', KEYS[4], id, 'ended') -- a renewal that is sent once more must not bring it back
local field = holder .. ' ' .. string.match(held, '%a+')
if redis.call('HINCRBY', KEYS[2], field, -1) <= 0 then
    redis.call('HDEL', KEYS[2], field)
end
for at = 7, #ARGV, 2 do
    local tat = redis.call('HGET', KEYS[1], ARGV[at])
    if tat then
        redis.call('HSET', KEYS[1], ARGV[at], whole(tat + ARGV[at + 1]))
        redis.call('HINCRBY', KEYS[1], ARGV[at] .. ' used', whole(ARGV[at + 1]))
    end
end
return 1
