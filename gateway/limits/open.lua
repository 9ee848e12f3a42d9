-- Calls open in a limit group, and of them in the bulk lane. The calls of the dead do not count.
local function open_calls(slots, alive, now)
    local open, open_bulk = 0, 0
    for _, holder in ipairs(redis.call('ZRANGEBYSCORE', alive, '(' .. whole(now), '+inf')) do
        local calls = redis.call('HMGET', slots, holder .. ' bulk', holder .. ' interactive')
        local bulk = tonumber(calls[1] or '0')
        open, open_bulk = open + bulk + tonumber(calls[2] or '0'), open_bulk + bulk
    end
    return open, open_bulk
end
