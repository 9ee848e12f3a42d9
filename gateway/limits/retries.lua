-- The retry budget of an account, for the whole fleet: a string, the time in us at which all retries so far are paid
-- for. None: they are. A retry costs `policy.retry_us`, from its reservation on, and nothing where it was not made
-- after all; time pays, and each other call that was made pays some when it ends.
local function retries_paid_at(key, now)
    return math.max(tonumber(redis.call('GET', key) or '') or now, now)
end

-- When a retry could go, in us from now; 0 for now.
local function retry_goes_in(key, now)
    return math.max(0, retries_paid_at(key, now) + policy.retry_us - policy.most_retries_us - now)
end

local function retry_taken(key, now)
    redis.call('SET', key, whole(retries_paid_at(key, now) + policy.retry_us), 'PX', DAY_MS)
end

local function retries_settle(key, now, is_retry, made)
    local paid_at = retries_paid_at(key, now)
    if paid_at > now and is_retry ~= made then
        paid_at = paid_at - (is_retry and policy.retry_us or policy.deposit_us)
        if paid_at > now then
            redis.call('SET', key, whole(paid_at), 'PX', DAY_MS)
        else
            redis.call('DEL', key)
        end
    end
end
