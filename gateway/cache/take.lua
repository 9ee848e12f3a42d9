-- Looks for an answer and, where there is none, begins to lead: one round trip for both.
--
-- KEYS[1]  assayline:cache:<hash>, which holds an answer ("A1 ...") or the lease of whoever fetches it ("L1 <holder>")
-- KEYS[2]  assayline:cache:alive:<holder>, our sign of life: no lease is ever without one
-- ARGV[1]  our lease
-- ARGV[2]  milliseconds we may lead
-- ARGV[3]  what may be replaced: a dead holder's lease, an answer that cannot be read; '' for nothing
-- ARGV[4]  milliseconds a sign of life counts
--
-- Returns nil: we lead now. Else {what is there, milliseconds it has left}.
local there = redis.pcall('GET', KEYS[1])
if type(there) == 'string' and there ~= ARGV[1] and there ~= ARGV[3] then
    return {there, redis.call('PTTL', KEYS[1])}
end
-- Our own lease is there where the connection broke before its reply came; a key of another kind is nobody's answer.
redis.call('SET', KEYS[2], '1', 'PX', ARGV[4])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
