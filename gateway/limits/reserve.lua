-- Reserves all that one call needs of a limit group, or nothing: one round trip, by the server's clock.
--
-- Each rate is a GCRA (ITU-T I.371, the virtual scheduling algorithm): `tat` is the time at which all that was reserved so
-- far would be used up, were it used at exactly the rate. All amounts come as the microseconds they take at that rate.
-- A call may go `room` before its tat. A date is refused by how far the tat is, not by how large the call is: else small
-- calls would starve large ones. An interactive call may go at once, ahead of calls that have booked earlier dates, while
-- what went ahead like that, and whose own date has not come, stays within the bucket's `reserve`.
--
-- KEYS[1]  ...:buckets        a hash: tat of each rate by its name; "<name> cost", how large calls lately are (a moving
--                            mean), and "<name> slack" of the latest, for those who look on
-- KEYS[2]  ...:slots          a hash: calls open, by "<holder> <lane>"
-- KEYS[3]  ...:alive          a sorted set: until when each holder's slots count
-- KEYS[4]  ...:held:<holder>  a hash: this holder's reservations, "<lane> <date>" by id, or "ended"
-- KEYS[5]  ...:ahead          a sorted set: what went ahead of its date, by that date
-- ARGV[1]  id of the reservation, unique for its holder: the same id again changes nothing
-- ARGV[2]  holder
-- ARGV[3]  lane: interactive or bulk
-- ARGV[4]  how far ahead a date may be booked, in us
-- ARGV[5]  how long the holder's slots count without a renewal, in us
-- ARGV[6]  calls open at once at most, 0 for no limit; ARGV[7]  of them in the bulk lane
-- ARGV[8]  the time in us, for tests; '' for the server's
-- ARGV[9]  name, cost, room, slack, reserve, again and again: one bucket each, in us; `slack`: how far its tat may be
--          from now where no date is booked ahead
--
-- Returns {1, date, now, ''}, or {0, what would have to be within the horizon, now, what stands in the way}.
local DAY_US = 86400 * 1000000

local now = tonumber(ARGV[8])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
local id, holder, lane = ARGV[1], ARGV[2], ARGV[3]
local horizon, lease = tonumber(ARGV[4]), tonumber(ARGV[5])
local most, most_bulk = tonumber(ARGV[6]), tonumber(ARGV[7])

local function whole(number)
    return string.format('%.0f', number)
end

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', whole(now))) do
    redis.call('HDEL', KEYS[2], dead .. ' interactive', dead .. ' bulk')
    redis.call('ZREM', KEYS[3], dead)
end
if not redis.call('ZSCORE', KEYS[3], holder) then
    redis.call('DEL', KEYS[4]) -- it lapsed: what it still holds comes back with its renewal
end
local held = redis.call('HGET', KEYS[4], id)
if held then
    return {1, tonumber(string.match(held, '%d+') or '') or now, now, ''}
end

local open, open_bulk = 0, 0
local slots = redis.call('HGETALL', KEYS[2])
for at = 1, #slots, 2 do
    open = open + slots[at + 1]
    if string.sub(slots[at], -5) == ' bulk' then
        open_bulk = open_bulk + slots[at + 1]
    end
end
if most > 0 and (open >= most or (lane == 'bulk' and open_bulk >= most_bulk)) then
    return {0, now, now, 'concurrent_calls'}
end

-- Without a tat (a flush, or nothing for a day) a bucket has room for this call alone: nobody knows what went before.
local buckets, date, farthest, in_the_way = {}, now, now, ''
for at = 9, #ARGV, 5 do
    local bucket = {name = ARGV[at], cost = tonumber(ARGV[at + 1]), slack = tonumber(ARGV[at + 3]), reserve = tonumber(ARGV[at + 4])}
    if bucket.cost > 0 then
        local room = math.max(tonumber(ARGV[at + 2]), bucket.cost)
        local tat = tonumber(redis.call('HGET', KEYS[1], bucket.name) or '') or now + room - bucket.cost
        bucket.from = math.max(tat, now)
        bucket.date = bucket.from + bucket.cost - room
        date = math.max(date, bucket.date)
        if bucket.from - bucket.slack > farthest then
            farthest, in_the_way = bucket.from - bucket.slack, bucket.name
        end
        buckets[#buckets + 1] = bucket
    end
end

if farthest - now > horizon then
    return {0, farthest, now, in_the_way}
end

local own_date, goes_ahead = date, lane == 'interactive' and date > now
if goes_ahead then
    redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', whole(now))
    local ahead = {}
    for _, member in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
        for name, cost in string.gmatch(member, ' (%S+)=(%d+)') do
            ahead[name] = (ahead[name] or 0) + cost
        end
    end
    for _, bucket in ipairs(buckets) do
        local waits = bucket.date > now
        goes_ahead = goes_ahead and not (waits and (ahead[bucket.name] or 0) + bucket.cost > bucket.reserve)
    end
    date = goes_ahead and now or date
end

local latest, member = now, holder .. '/' .. id
for _, bucket in ipairs(buckets) do
    local tat = math.max(bucket.from, date) + bucket.cost
    local cost = tonumber(redis.call('HGET', KEYS[1], bucket.name .. ' cost') or '') or bucket.cost
    cost = cost + (bucket.cost - cost) / 16
    redis.call('HSET', KEYS[1], bucket.name, whole(tat), bucket.name .. ' cost', whole(cost),
               bucket.name .. ' slack', whole(bucket.slack))
    latest = math.max(latest, tat)
    if bucket.date > now then
        member = member .. ' ' .. bucket.name .. '=' .. whole(bucket.cost)
    end
end
if #buckets > 0 then
    redis.call('PEXPIRE', KEYS[1], whole((latest - now + DAY_US) / 1000))
end
if goes_ahead then
    redis.call('ZADD', KEYS[5], whole(own_date), member)
    redis.call('PEXPIRE', KEYS[5], whole(DAY_US / 1000))
end
redis.call('HINCRBY', KEYS[2], holder .. ' ' .. lane, 1)
redis.call('ZADD', KEYS[3], whole(now + lease), holder)
redis.call('HSET', KEYS[4], id, lane .. ' ' .. whole(date))
redis.call('PEXPIRE', KEYS[2], whole(DAY_US / 1000))
redis.call('PEXPIRE', KEYS[3], whole(DAY_US / 1000))
redis.call('PEXPIRE', KEYS[4], whole(lease / 1000))
return {1, date, now, ''}
