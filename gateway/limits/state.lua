-- What is reserved in a limit group; changes nothing.
--
-- KEYS[1]  ...:buckets   KEYS[2]  ...:slots   KEYS[3]  ...:alive
-- ARGV[1]  the time in us, for tests; '' for the server's
--
-- Returns {now, calls open, of them in the bulk lane, what `buckets` holds: field, value, ...}. The calls of the dead do
-- not count.
local now = tonumber(ARGV[1])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
local open, open_bulk = 0, 0
for _, holder in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], string.format('(%.0f', now), '+inf')) do
    local bulk = tonumber(redis.call('HGET', KEYS[2], holder .. ' bulk') or '') or 0
    local interactive = tonumber(redis.call('HGET', KEYS[2], holder .. ' interactive') or '') or 0
    open, open_bulk = open + bulk + interactive, open_bulk + bulk
end
local state = {now, open, open_bulk}
local buckets = redis.call('HGETALL', KEYS[1])
for at = 1, #buckets, 2 do
    state[#state + 1] = buckets[at]
    state[#state + 1] = tonumber(buckets[at + 1])
end
return state
