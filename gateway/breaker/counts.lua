-- The counts of a breaker as of now: the span, calls that ended in it, of them failed, and those of the span before.
local function breaker_counts(breaker, now)
    local span = math.floor(now / policy.span_us)
    local last, calls, failed, calls_before, failed_before = string.match(breaker.counts or '', '(%d+) (%d+) (%d+) (%d+) (%d+)')
    if span == tonumber(last) then
        return span, calls, failed, calls_before, failed_before
    elseif last and span == last + 1 then
        return span, 0, 0, calls, failed
    end
    return span, 0, 0, 0, 0
end
