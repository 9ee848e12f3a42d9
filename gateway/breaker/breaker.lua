-- The breaker of one account, for the whole fleet: a hash.
--
-- state        'open', 'closed', or none, which is closed
-- epoch        when that began, in us: it rises with every change, and after a flush no old one comes again. A call is
--              admitted in an epoch, and its outcome counts in that one alone
-- reason       why it changed last, for people
-- changes      how often it has
-- forced       'open' or 'closed' while an operator holds it there: no outcome counts then
-- open_us, probe_at       how long it is open, and until when; from then on it is half-open
-- probe, probe_until      who tries whether the provider is well again, "<holder>/<id>", and how long that counts without
--                         a renewal. Nobody else may try until it has ended, or its holder has died
-- row                     failures since the last success
-- counts                  the number of the span of time under way, each of `policy.span_us`; calls that ended in it, of
--                         them failed; and those of the span before: five numbers
local function breaker_at(key, now)
    local read = redis.call('HMGET', key, 'state', 'epoch', 'reason', 'forced', 'open_us', 'probe_at', 'probe', 'probe_until', 'row', 'counts')
    local breaker = {
        key = key, state = 'closed', epoch = read[2] or '0', reason = read[3] or '', forced = read[4],
        open_us = tonumber(read[5] or '0'), probe = read[7], row = tonumber(read[9] or '0'), counts = read[10], again_at = now,
    }
    if breaker.forced then
        breaker.state = breaker.forced
        breaker.again_at = breaker.forced == 'open' and now + policy.forced_again_us or now
    elseif read[1] == 'open' then
        local probe_at, probe_until = tonumber(read[6]), tonumber(read[8] or '0')
        breaker.state = now < probe_at and 'open' or 'half-open'
        breaker.probing = breaker.probe and now < probe_until
        if now < probe_at then
            breaker.again_at = probe_at
        elseif breaker.probing then
            breaker.again_at = math.min(now + policy.probe_again_us, probe_until)
        end
    end
    return breaker
end

-- How it stands, as processes are told; the third is in how many us a call could be let in, 0 for now.
local function breaker_standing(breaker, now)
    return {breaker.state, breaker.epoch, breaker.again_at - now, breaker.reason, breaker.row}
end

local function breaker_changes(breaker, now, state, reason)
    breaker.epoch = whole(math.max(now, breaker.epoch + 1))
    redis.call('HSET', breaker.key, 'state', state, 'epoch', breaker.epoch, 'reason', reason)
    redis.call('HDEL', breaker.key, 'probe_at', 'open_us', 'probe', 'probe_until', 'row', 'counts')
    redis.call('HINCRBY', breaker.key, 'changes', 1)
    redis.call('PEXPIRE', breaker.key, DAY_MS)
end

local function breaker_opens(breaker, now, open_us, reason)
    breaker_changes(breaker, now, 'open', reason)
    redis.call('HSET', breaker.key, 'open_us', whole(open_us), 'probe_at', whole(now + open_us))
end
