-- An operator's order: hold the breaker open or closed, for all processes, until it is taken back. Again, it does nothing.
--
-- KEYS[1]  ...:breaker. It stays as long as the order
-- ARGV[1]  open, closed, or '' to take back what was ordered: what was held open is half-open then, a probe decides
-- ARGV[2]  the time in us, for tests; '' for the server's
--
-- Returns how it stands then.
local now = time_us(ARGV[2])
local breaker, order = breaker_at(KEYS[1], now), ARGV[1]
if order ~= (breaker.forced or '') then
    if order ~= '' then
        breaker_changes(breaker, now, order, 'held ' .. order .. ' by an operator')
        redis.call('HSET', KEYS[1], 'forced', order)
        redis.call('PERSIST', KEYS[1])
    else
        redis.call('HDEL', KEYS[1], 'forced')
        if breaker.forced == 'open' then
            breaker_opens(breaker, now, 0, 'no longer held open by an operator')
        else
            breaker_changes(breaker, now, 'closed', 'no longer held closed by an operator')
        end
    end
end
return breaker_standing(breaker_at(KEYS[1], now), now)
