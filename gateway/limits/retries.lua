-- The retry budget of an account, for the whole fleet: a string, the time in us at which all retries so far are paid for.
-- None: they are. A retry costs `policy.retry_us`; time pays, and each other call pays some.
local function retries_paid_at(key, now)
    return math.max(tonumber(redis.call('GET', key) or '') or now, now)
end

-- When a retry could go, in us from now; 0 for now.
local function retry_in(paid_at, now)
    return math.max(0, paid_at + policy.retry_us - policy.most_retries_us - now)
end

local function retries_count(key, now, paid_at, is_retry)
    if is_retry then
        paid_at = paid_at + policy.retry_us
    elseif paid_at == now then
        return
    else
        paid_at = paid_at - policy.deposit_us
    end
    if paid_at > now then
        redis.call('SET', key, whole(paid_at), 'PX', DAY_MS)
    else
        redis.call('DEL', key)
    end
end
