-- How many calls may be open in a limit group whose provider was overloaded: a hash that lapses `policy.forget_us`
-- after the last cut. A cut is multiplicative, recovery additive (Chiu, Jain, 1989): `step` more with as many successes
-- as calls may be open. What was admitted before a cut says nothing about the load after it (TCP reacts once per round
-- trip, RFC 3168), so it neither cuts again nor recovers.
--
-- ceiling     calls that may be open, with a fraction
-- cut_at      the last cut, in us
-- step        at that cut: how much a round of successes adds
local function ceiling_at(key, now)
    local read = redis.call('HMGET', key, 'ceiling', 'cut_at', 'step')
    if read[1] and now - read[2] < policy.forget_us then
        return tonumber(read[1]), tonumber(read[2]), tonumber(read[3])
    end
end

-- Returns whether it was news.
local function ceiling_cut(key, now, admitted, open)
    local ceiling, cut_at = ceiling_at(key, now)
    if ceiling and admitted <= cut_at then
        return false
    end
    local cut = math.max(1, math.floor(open * policy.cut))
    redis.call('HSET', key, 'ceiling', math.min(cut, ceiling or cut), 'cut_at', whole(now),
               'step', math.max(1, open * policy.step))
    redis.call('PEXPIRE', key, whole(policy.forget_us / 1000))
    return true
end

local function ceiling_recovers(key, now, admitted)
    local ceiling, cut_at, step = ceiling_at(key, now)
    if ceiling and admitted > cut_at then
        redis.call('HSET', key, 'ceiling', string.format('%.4f', ceiling + step / ceiling))
    end
end

-- Calls that may be open, and of them in the bulk lane: of `most`, which is 0 for no limit, and the ceiling in force.
local function most_open(most, ceiling)
    most = most > 0 and most or math.huge
    most = ceiling and math.min(most, math.floor(ceiling)) or most
    return most, math.max(1, math.floor(most * policy.bulk_share))
end
