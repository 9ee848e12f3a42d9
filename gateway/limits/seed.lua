-- Begins a limit group's day of money with what the ledger has of it and what has ended meanwhile, unless somebody was
-- faster.
--
-- KEYS[1]  ...:spent:<day>, see money.lua
-- ARGV[1]  the time in us, for tests; '' for the server's   ARGV[2]  what the day's calls have cost, in micro-dollars
local TWO_DAYS_MS = 2 * DAY_MS
if redis.call('HEXISTS', KEYS[1], 'spent') == 0 then
    local ended = redis.call('HGET', KEYS[1], 'ended') or 0
    redis.call('HSET', KEYS[1], 'spent', whole(ARGV[2] + ended), 'open', 0, 'seeded_at', whole(time_us(ARGV[1])))
    redis.call('HDEL', KEYS[1], 'ended')
    redis.call('PEXPIRE', KEYS[1], TWO_DAYS_MS)
end
return false
