-- Calls open in a limit group, and who holds them. A holder counts until a time that its renewals put off.
--
-- slots    a hash: calls open, by "<holder> <lane>"
-- alive    a sorted set: until when each holder's slots count
local function slots_dead(alive, now)
    return redis.call('ZRANGEBYSCORE', alive, '-inf', whole(now))
end

-- Forgets what dead holders held.
local function slots_lapse(slots, alive, dead)
    for _, holder in ipairs(dead) do
        redis.call('HDEL', slots, holder .. ' interactive', holder .. ' bulk')
        redis.call('ZREM', alive, holder)
    end
end

-- Calls open, and of them in the bulk lane, but for those of holders who are dead.
local function slots_open(slots, dead)
    local open, open_bulk, gone = 0, 0, {}
    for _, holder in ipairs(dead) do
        gone[holder .. ' interactive'], gone[holder .. ' bulk'] = true, true
    end
    local held = redis.call('HGETALL', slots)
    for at = 1, #held, 2 do
        if not gone[held[at]] then
            open = open + held[at + 1]
            if string.sub(held[at], -5) == ' bulk' then
                open_bulk = open_bulk + held[at + 1]
            end
        end
    end
    return open, open_bulk
end

local function slots_take(slots, alive, holder, lane, lapses)
    -- The keys may be new where the holder's fields are. Later on its renewals keep them from lapsing.
    if redis.call('HINCRBY', slots, holder .. ' ' .. lane, 1) == 1 then
        redis.call('PEXPIRE', slots, DAY_MS)
    end
    if redis.call('ZADD', alive, whole(lapses), holder) == 1 then
        redis.call('PEXPIRE', alive, DAY_MS)
    end
end

local function slots_free(slots, holder, lane)
    local field = holder .. ' ' .. lane
    if redis.call('HINCRBY', slots, field, -1) <= 0 then
        redis.call('HDEL', slots, field)
    end
end

-- All that a holder holds, by lane, as it says itself.
local function slots_hold(slots, alive, holder, open, lapses)
    for lane, calls in pairs(open) do
        if calls > 0 then
            redis.call('HSET', slots, holder .. ' ' .. lane, calls)
        else
            redis.call('HDEL', slots, holder .. ' ' .. lane)
        end
    end
    redis.call('ZADD', alive, whole(lapses), holder)
    redis.call('PEXPIRE', slots, DAY_MS)
    redis.call('PEXPIRE', alive, DAY_MS)
end
