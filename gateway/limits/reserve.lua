-- Reserves all that one call needs of a limit group, or nothing: one round trip, by the server's clock. It lets nothing in
-- that the breaker of the account, its retry budget, or the ceiling after an overload keep out.
--
-- Each rate is a GCRA (ITU-T I.371, the virtual scheduling algorithm): `tat` is the time at which all that was reserved so
-- far would be used up, were it used at exactly the rate. All amounts come as the microseconds they take at that rate.
-- A call may go `room` before its tat. A date is refused by how far the tat is, not by how large the call is: else small
-- calls would starve large ones. An interactive call may go at once, ahead of calls that have booked earlier dates, while
-- what went ahead like that, and whose own date has not come, stays within the bucket's `reserve`.
--
-- KEYS[1]  ...:buckets        a hash: tat of each rate by its name; "<name> cost", how large calls lately are (a moving
--                            mean), and "<name> slack" of the latest; "<name> used", what was reserved lately, as a
--                            sum that fades within a minute, and "<name> used_at", when that was so: for those who look
--                            on. "closed": see tighten.lua
-- KEYS[2]  ...:slots          a hash: calls open, by "<holder> <lane>"
-- KEYS[3]  ...:alive          a sorted set: until when each holder's slots count
-- KEYS[4]  ...:held:<holder>  a hash: this holder's reservations, "<lane> <date> <epoch> <admitted>" by id, or "ended",
--                            then "ended before" until its next renewal but one
-- KEYS[5]  ...:ahead          a sorted set: what went ahead of its date, by that date
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
-- ARGV[11] name, cost, room, slack, reserve, again and again: one bucket each, in us; `slack`: how far its tat may be
--          from now where no date is booked ahead
--
-- Returns {1, date, now, '', the standing of the breaker, epoch, admitted, 1 where it is the probe, holders alive}, or
-- {0, how far from now what would have to be within the horizon is, now, what stands in the way, the standing of the
-- breaker}; in the second place, where slots stand in the way, how many there are, where retries do, when one could go,
-- where money does, what calls that have ended have cost.
local DAY_US, MINUTE_US = DAY_MS * 1000, 60000000

local now = time_us(ARGV[8])
local id, holder, lane = ARGV[1], ARGV[2], ARGV[3]
local horizon, lease = tonumber(ARGV[4]), tonumber(ARGV[5])
local is_retry, member = ARGV[7] == '1', holder .. '/' .. id
local breaker = breaker_at(KEYS[7], now)

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', whole(now))) do
    redis.call('HDEL', KEYS[2], dead .. ' interactive', dead .. ' bulk')
    if KEYS[9] then
        money_of_the_dead(KEYS[9], dead)
    end
    redis.call('ZREM', KEYS[3], dead)
end
if not redis.call('ZSCORE', KEYS[3], holder) then
    redis.call('DEL', KEYS[4]) -- it lapsed: what it still holds comes back with its renewal
end
local held = redis.call('HGET', KEYS[4], id)
if held then
    local date, epoch, admitted = string.match(held, '(%d+) (%d+) (%d+)')
    return {1, tonumber(date or now), now, '', breaker_standing(breaker, now), epoch or '', tonumber(admitted or now),
            breaker.probe == member and 1 or 0, redis.call('ZCARD', KEYS[3])}
end

local function refused(what, in_the_way)
    return {0, what, now, in_the_way, breaker_standing(breaker, now)}
end
if breaker.state == 'open' or breaker.probing then
    return refused(0, 'breaker')
end
local budget, worst = tonumber(ARGV[9]), tonumber(ARGV[10])
if budget then
    local money = redis.call('HMGET', KEYS[9], 'spent', 'open', 'cost')
    if not money[1] then
        return refused(0, 'unseeded')
    end
    local mean = tonumber(money[3] or worst)
    redis.call('HSET', KEYS[9], 'cost', whole(mean + (worst - mean) / 16))
    local settled = money[1] - money[2]
    if settled + worst > budget then
        return refused(settled, 'usd_per_day')
    elseif money[1] + worst > budget then
        return refused(settled, 'usd_open')
    end
end
local paid_at = is_retry and retries_paid_at(KEYS[8], now)
if is_retry and retry_in(paid_at, now) > 0 then
    return refused(retry_in(paid_at, now), 'retries')
end

local open, open_bulk = 0, 0
local slots = redis.call('HGETALL', KEYS[2])
for at = 1, #slots, 2 do
    open = open + slots[at + 1]
    if string.sub(slots[at], -5) == ' bulk' then
        open_bulk = open_bulk + slots[at + 1]
    end
end
local limit, ceiling = tonumber(ARGV[6]), ceiling_at(KEYS[6], now)
local most, most_bulk = most_open(limit, ceiling)
if open >= most or (lane == 'bulk' and open_bulk >= most_bulk) then
    return refused(most, most == limit and 'concurrent_calls' or 'overload')
end

-- What the provider has closed, nobody enters, urgent or not.
local closed = math.max(tonumber(redis.call('HGET', KEYS[1], 'closed') or '') or now, now)
if closed - now > horizon then
    return refused(closed - now, 'retry_after')
end

-- Without a tat (a flush, or nothing for a day) a bucket has room for this call alone: nobody knows what went before.
local buckets, date, farthest, in_the_way = {}, closed, now, ''
for at = 11, #ARGV, 5 do
    local bucket = {name = ARGV[at], cost = tonumber(ARGV[at + 1]), slack = tonumber(ARGV[at + 3]), reserve = tonumber(ARGV[at + 4])}
    if bucket.cost > 0 then
        local room = math.max(tonumber(ARGV[at + 2]), bucket.cost)
        local tat = tonumber(redis.call('HGET', KEYS[1], bucket.name) or '')
        bucket.from = math.max(tat or now + room - bucket.cost, now)
        bucket.date = bucket.from + bucket.cost - room
        date = math.max(date, bucket.date)
        if tat and bucket.from - bucket.slack > farthest then
            farthest, in_the_way = bucket.from - bucket.slack, bucket.name
        end
        buckets[#buckets + 1] = bucket
    end
end

if farthest - now > horizon then
    return refused(farthest - now, in_the_way)
end

local own_date, goes_ahead = date, lane == 'interactive' and date > closed
if goes_ahead then
    redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', whole(now))
    local ahead = {}
    for _, went in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
        for name, cost in string.gmatch(went, ' (%S+)=(%d+)') do
            ahead[name] = (ahead[name] or 0) + cost
        end
    end
    for _, bucket in ipairs(buckets) do
        local waits = bucket.date > now
        goes_ahead = goes_ahead and not (waits and (ahead[bucket.name] or 0) + bucket.cost > bucket.reserve)
    end
    date = goes_ahead and closed or date
end

local latest, goes = now, member
for _, bucket in ipairs(buckets) do
    local tat = math.max(bucket.from, date) + bucket.cost
    local name = bucket.name
    local kept = redis.call('HMGET', KEYS[1], name .. ' cost', name .. ' used', name .. ' used_at')
    local cost, used = tonumber(kept[1] or bucket.cost), tonumber(kept[2] or 0)
    cost = cost + (bucket.cost - cost) / 16
    -- What came back later than it had faded is below nothing, and the server's clock may have been set back.
    local fading = math.exp(math.min(0, (tonumber(kept[3] or now) - now) / MINUTE_US))
    used = math.max(0, used) * fading + bucket.cost
    redis.call('HSET', KEYS[1], name, whole(tat), name .. ' cost', whole(cost), name .. ' slack', whole(bucket.slack),
               name .. ' used', whole(used), name .. ' used_at', whole(now))
    latest = math.max(latest, tat)
    if bucket.date > now then
        goes = goes .. ' ' .. bucket.name .. '=' .. whole(bucket.cost)
    end
end
if #buckets > 0 then
    redis.call('PEXPIRE', KEYS[1], whole((latest - now + DAY_US) / 1000))
end
if goes_ahead then
    redis.call('ZADD', KEYS[5], whole(own_date), goes)
    redis.call('PEXPIRE', KEYS[5], DAY_MS)
end
redis.call('HINCRBY', KEYS[2], holder .. ' ' .. lane, 1)
redis.call('ZADD', KEYS[3], whole(now + lease), holder)
redis.call('HSET', KEYS[4], id, string.format('%s %.0f %s %.0f', lane, date, breaker.epoch, now))
redis.call('PEXPIRE', KEYS[2], DAY_MS)
redis.call('PEXPIRE', KEYS[3], DAY_MS)
redis.call('PEXPIRE', KEYS[4], whole(lease / 1000))
local probes = breaker.state == 'half-open'
if probes then
    redis.call('HSET', KEYS[7], 'probe', member, 'probe_until', whole(now + lease))
end
if is_retry then
    retry_reserved(KEYS[8], paid_at)
end
if budget then
    money_counts(KEYS[9], member, worst)
end
return {1, date, now, '', breaker_standing(breaker, now), breaker.epoch, now, probes and 1 or 0, redis.call('ZCARD', KEYS[3])}
