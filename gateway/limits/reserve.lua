-- Reserves all that one call needs of a limit group, or nothing: one round trip, by the server's clock. It lets nothing
-- in that the breaker of the account, the day's money, the retry budget, or the ceiling after an overload keep out.
--
-- KEYS[1]  ...:buckets        see gcra.lua
-- KEYS[2]  ...:slots          KEYS[3]  ...:alive   see slots.lua
-- KEYS[4]  ...:held:<holder>  see held.lua
-- KEYS[5]  ...:ahead          see ahead.lua
-- KEYS[6]  ...:ceiling        see overload.lua
-- KEYS[7]  ...:breaker        of the account, see breaker.lua
-- KEYS[8]  ...:retries        of the account, see retries.lua
-- KEYS[9]  ...:spent:<day>    where there is a budget, see money.lua
-- ARGV[1]  id of the reservation, unique for its holder: the same id again changes nothing
-- ARGV[2]  holder
-- ARGV[3]  lane: interactive or bulk
-- ARGV[4]  how far ahead a date may be booked, in us
-- ARGV[5]  how long the holder's slots count without a renewal, in us
-- ARGV[6]  calls open at once at most, 0 for no limit
-- ARGV[7]  1 where it is a retry
-- ARGV[8]  the time in us, for tests; '' for the server's
-- ARGV[9]  budget of the day in micro-dollars, '' for none
-- ARGV[10] what the call costs at worst, in micro-dollars
-- ARGV[11] name, cost, room, slack, reserve, again and again: one bucket each, in us
--
-- Returns {1, date, now, '', the standing of the breaker, epoch, admitted, 1 where it is the probe, holders alive}, or
-- {0, how far from now what would have to be within the horizon is, now, what stands in the way, the standing of the
-- breaker}; in the second place, where slots stand in the way, how many there are, where retries do, when one could go,
-- where money does, what calls that have ended have cost.
local id, holder, lane = ARGV[1], ARGV[2], ARGV[3]
local horizon, lease, limit = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local is_retry, member = ARGV[7] == '1', holder .. '/' .. id
local now, budget, worst = time_us(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local breaker = breaker_at(KEYS[7], now)

local function reserved(date, epoch, admitted, probes)
    return {1, date, now, '', breaker_standing(breaker, now), epoch, admitted, probes and 1 or 0,
            redis.call('ZCARD', KEYS[3])}
end
local function refused(in_the_way, what)
    return {0, what, now, in_the_way, breaker_standing(breaker, now)}
end

-- The dead hold nothing any more.
local dead = slots_dead(KEYS[3], now)
slots_lapse(KEYS[2], KEYS[3], dead)
if budget then
    for _, gone in ipairs(dead) do
        money_of_the_dead(KEYS[9], gone)
    end
end
if not redis.call('ZSCORE', KEYS[3], holder) then
    redis.call('DEL', KEYS[4]) -- it lapsed: what it still holds comes back with its renewal
end

-- Heard before: what was said then.
local held = redis.call('HGET', KEYS[4], id)
if held then
    local date, epoch, admitted = string.match(held, '(%d+) (%d+) (%d+)')
    return reserved(tonumber(date or now), epoch or '', tonumber(admitted or now), breaker.probe == member)
end

-- What keeps it out whatever the rates have.
if breaker.state == 'open' or breaker.probing then
    return refused('breaker', 0)
end
local money = budget and money_at(KEYS[9], member)
if money then
    local in_the_way, settled = money_refuses(money, budget, worst)
    if in_the_way then
        return refused(in_the_way, settled)
    end
end
local retry_in = is_retry and retry_goes_in(KEYS[8], now) or 0
if retry_in > 0 then
    return refused('retries', retry_in)
end
local open, open_bulk = slots_open(KEYS[2], {})
local most, most_bulk = most_open(limit, ceiling_at(KEYS[6], now))
if open >= most or (lane == 'bulk' and open_bulk >= most_bulk) then
    return refused(most == limit and 'concurrent_calls' or 'overload', most)
end

-- A date. What the provider has closed, nobody enters, urgent or not.
local closed = math.max(tonumber(redis.call('HGET', KEYS[1], 'closed') or '') or now, now)
if closed - now > horizon then
    return refused('retry_after', closed - now)
end
local buckets, own_date, farthest, in_the_way = buckets_read(KEYS[1], now, closed, 11)
if farthest - now > horizon then
    return refused(in_the_way, farthest - now)
end
local ahead = lane == 'interactive' and own_date > closed and may_go_ahead(KEYS[5], now, buckets)
local date = ahead and closed or own_date

-- It may go: all of it is taken.
buckets_book(KEYS[1], now, buckets, date)
if ahead then
    goes_ahead(KEYS[5], now, member, buckets, own_date)
end
slots_take(KEYS[2], KEYS[3], holder, lane, now + lease)
redis.call('HSET', KEYS[4], id, string.format('%s %.0f %s %.0f', lane, date, breaker.epoch, now))
redis.call('PEXPIRE', KEYS[4], whole(lease / 1000))
local probes = breaker.state == 'half-open'
if probes then
    redis.call('HSET', KEYS[7], 'probe', member, 'probe_until', whole(now + lease))
end
if is_retry then
    retry_taken(KEYS[8], now)
end
if money then
    money_counts(money, worst)
end
return reserved(date, breaker.epoch, now, probes)
