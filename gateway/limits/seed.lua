-- Begins a limit group's day of money with what the ledger has of it, unless somebody was faster.
--
-- KEYS[1]  ...:spent:<day>, see money.lua
-- ARGV[1]  the time in us, for tests; '' for the server's   ARGV[2]  what the day's calls have cost, in micro-dollars
local TWO_DAYS_MS = 2 * DAY_MS
if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('HSET', KEYS[1], 'spent', ARGV[2], 'open', 0, 'seeded_at', whole(time_us(ARGV[1])))
    redis.call('PEXPIRE', KEYS[1], TWO_DAYS_MS)
end
return false
