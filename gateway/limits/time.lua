-- Numbers as Redis takes them, and the time in us: `given`, for tests, or the server's where that is ''.
local DAY_MS = 86400000
local function whole(number)
    return string.format('%.0f', number)
end
local function time_us(given)
    local now = tonumber(given)
    if not now then
        local time = redis.call('TIME')
        now = time[1] * 1000000 + time[2]
    end
    return now
end
