-- The rates of a limit group. Each is a GCRA (ITU-T I.371, the virtual scheduling algorithm): `tat` is the time at
-- which all that was reserved so far would be used up, were it used at exactly the rate. All amounts come as the
-- microseconds they take at that rate. A call may go `room` before its tat. A date is refused by how far the tat is,
-- not by how large the call is: else small calls would starve large ones.
--
-- <name>           its tat
-- <name> cost      how large calls lately are (a moving mean)
-- <name> slack     how far its tat may be from now where no date is booked ahead, for the latest call
-- <name> used      what was reserved lately, as a sum that fades within a minute: for those who look on
-- <name> used_at   when that was so
-- closed, told     see tighten.lua
local DAY_US, MINUTE_US = DAY_MS * 1000, 60000000

-- The buckets a call draws on, from the script's arguments on, five each; the date that they have for it, not before
-- `closed`; how far the farthest is beyond its slack, and its name.
local function buckets_read(key, now, closed, first)
    local buckets, date, farthest, in_the_way = {}, closed, now, ''
    for at = first, #ARGV, 5 do
        local name, cost, room = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
        local slack, reserve = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
        if cost > 0 then
            room = math.max(room, cost)
            local kept = redis.call('HMGET', key, name, name .. ' cost', name .. ' used', name .. ' used_at')
            local tat = tonumber(kept[1] or '')
            -- Without a tat (a flush, or nothing for a day) there is room for this call: nobody knows what went before.
            local from = math.max(tat or now + room - cost, now)
            local own_date = from + cost - room
            date = math.max(date, own_date)
            if tat and from - slack > farthest then
                farthest, in_the_way = from - slack, name
            end
            buckets[#buckets + 1] = {
                name = name, cost = cost, slack = slack, reserve = reserve, from = from, date = own_date,
                mean = kept[2] or cost, used = kept[3] or 0, used_at = kept[4] or now,
            }
        end
    end
    return buckets, date, farthest, in_the_way
end

local function buckets_book(key, now, buckets, date)
    local latest, fields = now, {}
    for place, bucket in ipairs(buckets) do
        local name, tat = bucket.name, math.max(bucket.from, date) + bucket.cost
        -- What came back later than it had faded is below nothing, and the server's clock may have been set back.
        local fading = math.exp(math.min(0, (bucket.used_at - now) / MINUTE_US))
        local at = place * 10
        fields[at - 9], fields[at - 8] = name, whole(tat)
        fields[at - 7], fields[at - 6] = name .. ' cost', whole(bucket.mean + (bucket.cost - bucket.mean) / 16)
        fields[at - 5], fields[at - 4] = name .. ' slack', whole(bucket.slack)
        fields[at - 3], fields[at - 2] = name .. ' used', whole(math.max(0, bucket.used) * fading + bucket.cost)
        fields[at - 1], fields[at] = name .. ' used_at', whole(now)
        latest = math.max(latest, tat)
    end
    if #buckets > 0 then
        redis.call('HSET', key, unpack(fields))
        redis.call('PEXPIRE', key, whole((latest - now + DAY_US) / 1000))
    end
end

-- Moves each bucket by what was used beyond what was reserved, or short of it: arguments from `first` on, two each.
local function buckets_settle(key, first)
    for at = first, #ARGV, 2 do
        local tat = redis.call('HGET', key, ARGV[at])
        if tat then
            redis.call('HSET', key, ARGV[at], whole(tat + ARGV[at + 1]))
            redis.call('HINCRBY', key, ARGV[at] .. ' used', whole(ARGV[at + 1]))
        end
    end
end
