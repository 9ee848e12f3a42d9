-- What a breaker makes of the outcome of a call: of `member`, admitted in `epoch`. Works, fails, or silent: says nothing.
-- An account that is rejected or exhausted is out at once: every other call would end the same way.
local function breaker_counts_one(breaker, now, fails)
    local span, calls, failed, calls_before, failed_before = breaker_counts(breaker, now)
    local row = fails and breaker.row + 1 or 0
    calls, failed = calls + 1, failed + (fails and 1 or 0)
    redis.call('HSET', breaker.key, 'counts', string.format('%d %d %d %d %d', span, calls, failed, calls_before, failed_before))
    if row ~= breaker.row then
        redis.call('HSET', breaker.key, 'row', row)
    end
    redis.call('PEXPIRE', breaker.key, DAY_MS)
    return row, calls + calls_before, failed + failed_before
end

local account_out = {
    rejected = {us = policy.rejected_us, reason = policy.rejected_reason},
    exhausted = {us = policy.exhausted_us, reason = policy.exhausted_reason},
}

local function breaker_hears(breaker, now, member, epoch, health)
    local out = account_out[health]
    if out then
        if breaker.probe == member or (breaker.state == 'closed' and not breaker.forced and epoch == breaker.epoch) then
            breaker_opens(breaker, now, out.us, out.reason)
        end
    elseif breaker.probe == member then
        if health == 'works' then
            breaker_changes(breaker, now, 'closed', 'the probe succeeded')
        elseif health == 'silent' then
            redis.call('HDEL', breaker.key, 'probe', 'probe_until') -- another may try
        else
            local longer = math.max(breaker.open_us * policy.growth, policy.open_us)
            breaker_opens(breaker, now, math.min(longer, policy.longest_open_us), 'the probe failed')
        end
    elseif health ~= 'silent' and breaker.state == 'closed' and not breaker.forced and epoch == breaker.epoch then
        local fails = health ~= 'works'
        local row, calls, failed = breaker_counts_one(breaker, now, fails)
        if row >= policy.failures_in_a_row then
            breaker_opens(breaker, now, policy.open_us, row .. ' failures in a row')
        elseif fails and calls >= policy.least_calls and failed >= calls * policy.failure_rate then
            local seconds = policy.span_us * 2 / 1000000
            breaker_opens(breaker, now, policy.open_us, string.format('%d of %d calls failed within %g s', failed, calls, seconds))
        end
    end
end
