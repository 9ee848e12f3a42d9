-- All that is known of a breaker; changes nothing.
--
-- KEYS[1]  ...:breaker   ARGV[1]  the time in us, for tests; '' for the server's
--
-- Returns {how it stands, whether a probe is under way, calls counted, of them failed, the hash: field, value, ...}.
local now = time_us(ARGV[1])
local breaker = breaker_at(KEYS[1], now)
local _, calls, failed, calls_before, failed_before = breaker_counts(breaker, now)
return {breaker_standing(breaker, now), breaker.probing and 1 or 0, calls + calls_before, failed + failed_before,
        redis.call('HGETALL', KEYS[1])}
