-- What is reserved in a limit group, and what keeps calls out of it; changes nothing.
--
-- KEYS[1]  ...:buckets   KEYS[2]  ...:slots   KEYS[3]  ...:alive   KEYS[4]  ...:ceiling   KEYS[5]  ...:breaker
-- ARGV[1]  the time in us, for tests; '' for the server's
--
-- Returns {now, calls open, of them in the bulk lane, calls that may be open after an overload or -1, the standing of the
-- breaker, what `buckets` holds: field, value, ...}.
local now = time_us(ARGV[1])
local open, open_bulk = open_calls(KEYS[2], KEYS[3], now)
local state = {now, open, open_bulk, math.floor(ceiling_at(KEYS[4], now) or -1), breaker_standing(breaker_at(KEYS[5], now), now)}
local buckets = redis.call('HGETALL', KEYS[1])
for at = 1, #buckets, 2 do
    state[#state + 1] = buckets[at]
    state[#state + 1] = tonumber(buckets[at + 1])
end
return state
