-- What is reserved in a limit group, and what keeps calls out of it; changes nothing.
--
-- KEYS[1]  ...:buckets   KEYS[2]  ...:slots   KEYS[3]  ...:alive   KEYS[4]  ...:ceiling   KEYS[5]  ...:breaker
-- KEYS[6]  ...:spent:<day>, where there is a budget
-- ARGV[1]  the time in us, for tests; '' for the server's
--
-- Returns {now, calls open, of them in the bulk lane, calls that may be open after an overload or -1, the standing of
-- the breaker, what is spent, of that what open calls may cost, how much a call may, or -1 each, what `buckets` holds:
-- field, value, ...}.
local now = time_us(ARGV[1])
local open, open_bulk = slots_open(KEYS[2], slots_dead(KEYS[3], now))
local ceiling = math.floor(ceiling_at(KEYS[4], now) or -1)
local money = KEYS[6] and redis.call('HMGET', KEYS[6], 'spent', 'open', 'cost') or {}
local state = {now, open, open_bulk, ceiling, breaker_standing(breaker_at(KEYS[5], now), now),
               tonumber(money[1] or -1), tonumber(money[2] or -1), tonumber(money[3] or -1)}
local buckets = redis.call('HGETALL', KEYS[1])
for at = 1, #buckets, 2 do
    state[#state + 1] = buckets[at]
    state[#state + 1] = tonumber(buckets[at + 1])
end
return state
