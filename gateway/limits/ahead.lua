-- What went ahead of its date: a sorted set, by that date, of "<holder>/<id> <bucket>=<cost> ...". An interactive call
-- may go at once, ahead of calls that have booked earlier dates, while what went ahead like that, and whose own date
-- has not come, stays within the bucket's `reserve`. It improves its date and wins none: its own is taken from the
-- schedule.
local function may_go_ahead(key, now, buckets)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now))
    local ahead = {}
    for _, went in ipairs(redis.call('ZRANGE', key, 0, -1)) do
        for name, cost in string.gmatch(went, ' (%S+)=(%d+)') do
            ahead[name] = (ahead[name] or 0) + cost
        end
    end
    for _, bucket in ipairs(buckets) do
        if bucket.date > now and (ahead[bucket.name] or 0) + bucket.cost > bucket.reserve then
            return false
        end
    end
    return true
end

local function goes_ahead(key, now, member, buckets, own_date)
    local goes = member
    for _, bucket in ipairs(buckets) do
        if bucket.date > now then
            goes = goes .. ' ' .. bucket.name .. '=' .. whole(bucket.cost)
        end
    end
    redis.call('ZADD', key, whole(own_date), goes)
    redis.call('PEXPIRE', key, DAY_MS)
end
