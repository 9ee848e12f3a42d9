-- What a provider said of its limits: it may only tighten ours. Older news than what was heard last say nothing.
--
-- KEYS[1]  ...:buckets. Its field "told" holds the provider's own date of the latest news, in us, and "closed" until when it
--          takes no call at all
-- ARGV[1]  the time in us, for tests; '' for the server's
-- ARGV[2]  the provider's own date in us, '' where it told none
-- ARGV[3]  how long it takes no call, in us from now; 0 where it said nothing of that
-- ARGV[4]  name, how long the rate takes for what it lacks of a whole room, in us, again and again
--
-- Returns 1, or 0 where the news were old.
local now, at = time_us(ARGV[1]), tonumber(ARGV[2])
if at and at <= now + DAY_MS * 1000 then
    if at < tonumber(redis.call('HGET', KEYS[1], 'told') or '0') then
        return 0
    end
    redis.call('HSET', KEYS[1], 'told', whole(at))
end
local latest = now + ARGV[3]
if tonumber(ARGV[3]) > 0 and latest > tonumber(redis.call('HGET', KEYS[1], 'closed') or '0') then
    redis.call('HSET', KEYS[1], 'closed', whole(latest))
end
for place = 4, #ARGV, 2 do
    local tat = now + ARGV[place + 1]
    latest = math.max(latest, tat)
    -- A rate that nobody has used is let alone: it has room for one call.
    local own = tonumber(redis.call('HGET', KEYS[1], ARGV[place]) or '')
    if own and tat > own then
        redis.call('HSET', KEYS[1], ARGV[place], whole(tat))
    end
end
redis.call('PEXPIRE', KEYS[1], whole((latest - now) / 1000 + DAY_MS))
return 1
