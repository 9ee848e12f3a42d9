-- Says that a holder is alive, and what it holds: what a flush or a lapse took is there again; what it has ended is
-- gone, and what it does not know of any more is lost.
--
-- KEYS[1]  ...:slots   KEYS[2]  ...:alive   KEYS[3]  ...:held:<holder>   KEYS[4]  ...:breaker
-- KEYS[5]  ...:spent:<day> and further ones: of today, and of days whose money its reservations count in
-- ARGV[1]  holder   ARGV[2]  how long its slots count, in us   ARGV[3]  the time in us, for tests; '' for the server's
-- ARGV[4]  the highest id that the holder had given when it said this: of later ones this says nothing
-- ARGV[5]  id, lane, date in us, place of its day among the keys or '', worst cost in micro-dollars, again and again:
--          its reservations; date '' for one whose reply is still on its way
local holder, lease, latest_id = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local now = time_us(ARGV[3])
local probe, known = redis.call('HGET', KEYS[4], 'probe'), {}
for at = 5, #ARGV, 5 do
    local id, lane, date, day, worst = unpack(ARGV, at, at + 4)
    local member = holder .. '/' .. id
    known[id] = true
    if probe == member then
        redis.call('HSET', KEYS[4], 'probe_until', whole(now + lease))
    end
    if date ~= '' and not has_ended(redis.call('HGET', KEYS[3], id)) then
        redis.call('HSET', KEYS[3], id, lane .. ' ' .. date)
        if day ~= '' then
            money_comes_back(KEYS[tonumber(day)], member, tonumber(worst))
        end
    end
end
for at = 5, #KEYS do
    money_of_the_dead(KEYS[at], holder, known, latest_id)
end

local open, held = {interactive = 0, bulk = 0}, redis.call('HGETALL', KEYS[3])
for at = 1, #held, 2 do
    local id, is = held[at], held[at + 1]
    local unknown = not known[id] and tonumber(id) <= latest_id
    if unknown and is == 'ended' then
        redis.call('HSET', KEYS[3], id, 'ended before')
    elseif unknown then
        redis.call('HDEL', KEYS[3], id)
    elseif not has_ended(is) then
        local lane = string.match(is, '%a+')
        open[lane] = open[lane] + 1
    end
end
slots_hold(KEYS[1], KEYS[2], holder, open, now + lease)
redis.call('PEXPIRE', KEYS[3], whole(lease / 1000))
return false
