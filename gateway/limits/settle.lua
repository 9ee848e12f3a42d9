-- Ends a reservation: frees its slot, moves each bucket by what was used beyond what was reserved, or short of it, and
-- tells the breaker how the call went; of money, its worst gives way to what it cost; a retry that was not made is
-- given back. Once: a second time it does nothing, and after the holder's slots have lapsed it settles the money alone.
--
-- KEYS[1]  ...:buckets   KEYS[2]  ...:slots   KEYS[3]  ...:alive   KEYS[4]  ...:held:<holder>   KEYS[5]  ...:ceiling
-- KEYS[6]  ...:breaker   KEYS[7]  ...:retries   KEYS[8]  ...:spent:<day>, where there is a budget
-- ARGV[1]  id   ARGV[2]  holder   ARGV[3]  the time in us, for tests; '' for the server's
-- ARGV[4]  works, fails, overloaded, rejected, exhausted or silent
-- ARGV[5]  the epoch it was admitted in   ARGV[6]  when that was, in us; 0 where nobody knows
-- ARGV[7]  what it cost, in micro-dollars   ARGV[8]  1 where it is a retry   ARGV[9]  1 where it was made
-- ARGV[10] name, difference in us, again and again
--
-- Returns 1, or 0 where there was nothing to end.
local id, holder, health = ARGV[1], ARGV[2], ARGV[4]
local held, admitted, member = redis.call('HGET', KEYS[4], id), tonumber(ARGV[6]), holder .. '/' .. id
if has_ended(held) then
    return 0
end
if KEYS[8] then
    money_settles(KEYS[8], member, tonumber(ARGV[7]), admitted)
end
if not held then
    if KEYS[8] then
        redis.call('HSET', KEYS[4], id, 'ended') -- once, here too
        redis.call('PEXPIRE', KEYS[4], 60000)
    end
    return 0
end
local now = time_us(ARGV[3])
local breaker = breaker_at(KEYS[6], now)
if health == 'overloaded' and breaker.probe ~= member then
    -- Of one congestion only the first says something new. A probe goes alone: there is nothing to cut.
    if not ceiling_cut(KEYS[5], now, admitted, (slots_open(KEYS[2], slots_dead(KEYS[3], now)))) then
        health = 'silent'
    end
elseif health == 'works' then
    ceiling_recovers(KEYS[5], now, admitted)
end
breaker_hears(breaker, now, member, ARGV[5], health)
retries_settle(KEYS[7], now, ARGV[8] == '1', ARGV[9] == '1')
redis.call('HSET', KEYS[4], id, 'ended') -- a renewal that is sent once more must not bring it back
slots_free(KEYS[2], holder, string.match(held, '%a+'))
buckets_settle(KEYS[1], 10)
return 1
