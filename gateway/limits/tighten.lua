-- What a provider said of its limits: it may only tighten ours. Amounts that are older news than what was heard last
-- say nothing; how long it takes no call counts from now on, whatever date its clock shows.
--
-- KEYS[1]  ...:buckets. Its field "told" holds the provider's own date of the latest news, in us, and "closed" until
--          when it takes no call at all
-- ARGV[1]  the time in us, for tests; '' for the server's
-- ARGV[2]  the provider's own date in us, '' where it told none
-- ARGV[3]  how long it takes no call, in us from now; 0 where it said nothing of that
-- ARGV[4]  name, how long the rate takes for what it lacks of a whole room, in us from now, and when it has a whole
--          room again, in us from the provider's date, 0 where it said nothing of that; again and again
--
-- Returns 1, or 0 where the amounts were old.
local MOST_AHEAD_US = 300000000 -- a clock farther ahead of ours is wrong, and must not have the last word for long
local now, at = time_us(ARGV[1]), tonumber(ARGV[2])
local latest, news = now + ARGV[3], 1
if tonumber(ARGV[3]) > 0 and latest > tonumber(redis.call('HGET', KEYS[1], 'closed') or '0') then
    redis.call('HSET', KEYS[1], 'closed', whole(latest))
end
if at and at <= now + MOST_AHEAD_US then
    if at < tonumber(redis.call('HGET', KEYS[1], 'told') or '0') then
        news = 0
    else
        redis.call('HSET', KEYS[1], 'told', whole(at))
    end
end
-- Its date is in whole seconds. A clock that is behind ours makes an answer look older than it is, which tightens less.
local age = at and math.max(0, now - at - 1000000) or 0
for place = 4, news * #ARGV, 3 do
    local tat = now + math.max(ARGV[place + 1], ARGV[place + 2] - age)
    latest = math.max(latest, tat)
    -- A rate that nobody has used is let alone: it has room for one call.
    local own = tonumber(redis.call('HGET', KEYS[1], ARGV[place]) or '')
    if own and tat > own then
        redis.call('HSET', KEYS[1], ARGV[place], whole(tat))
    end
end
redis.call('PEXPIRE', KEYS[1], whole((latest - now) / 1000 + DAY_MS))
return news
