-- Says that a holder is alive, and what it holds: what a flush or a lapse took is there again, what it has ended is gone.
--
-- KEYS[1]  ...:slots   KEYS[2]  ...:alive   KEYS[3]  ...:held:<holder>   KEYS[4]  ...:breaker
-- KEYS[5]  ...:spent:<day> and further ones, of days whose money its reservations count in
-- ARGV[1]  holder   ARGV[2]  how long its slots count, in us   ARGV[3]  the time in us, for tests; '' for the server's
-- ARGV[4]  the highest id that the holder had given when it said this: of later ones this says nothing
-- ARGV[5]  id, lane, date in us, place of its day among the keys or '', worst cost in micro-dollars, again and again: its
--          reservations; date '' for one whose reply is still on its way
local function has_ended(held)
    return held and string.sub(held, 1, 5) == 'ended'
end
local now, latest_id = time_us(ARGV[3]), tonumber(ARGV[4])
local probe = redis.call('HGET', KEYS[4], 'probe')
local known = {}
for at = 5, #ARGV, 5 do
    known[ARGV[at]] = true
    if probe == ARGV[1] .. '/' .. ARGV[at] then
        redis.call('HSET', KEYS[4], 'probe_until', whole(now + ARGV[2]))
    end
    if ARGV[at + 2] ~= '' and not has_ended(redis.call('HGET', KEYS[3], ARGV[at])) then
        redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1] .. ' ' .. ARGV[at + 2])
        if ARGV[at + 3] ~= '' then
            money_comes_back(KEYS[tonumber(ARGV[at + 3])], ARGV[1] .. '/' .. ARGV[at], tonumber(ARGV[at + 4]))
        end
    end
end
for at = 5, #KEYS do
    money_of_the_dead(KEYS[at], ARGV[1], known, latest_id)
end
local open = {interactive = 0, bulk = 0}
local held = redis.call('HGETALL', KEYS[3])
for at = 1, #held, 2 do
    if not known[held[at]] and tonumber(held[at]) <= latest_id then
        if held[at + 1] == 'ended' then
            redis.call('HSET', KEYS[3], held[at], 'ended before') -- its end may have come in one batch with this
        else
            redis.call('HDEL', KEYS[3], held[at])
        end
    elseif not has_ended(held[at + 1]) then
        local lane = string.match(held[at + 1], '%a+')
        open[lane] = open[lane] + 1
    end
end
for lane, calls in pairs(open) do
    local field = ARGV[1] .. ' ' .. lane
    if calls > 0 then
        redis.call('HSET', KEYS[1], field, calls)
    else
        redis.call('HDEL', KEYS[1], field)
    end
end
redis.call('ZADD', KEYS[2], whole(now + ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], DAY_MS)
redis.call('PEXPIRE', KEYS[2], DAY_MS)
redis.call('PEXPIRE', KEYS[3], whole(ARGV[2] / 1000))
return false
