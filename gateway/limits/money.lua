-- What a limit group spends on one day, in micro-dollars: a hash that lapses two days after it was seeded.
--
-- spent               what its calls cost; those that are open, and those of which nobody knows, at their worst
-- open                of that: what calls that are open may cost at worst
-- cost                how much calls lately may cost at worst (a moving mean): for those who look on
-- seeded_at           when the rest was read from the ledger, in us
-- ended               what calls have cost that ended while this day had not begun yet (after a flush): the ledger may
--                     have been read before they were written there. One that was read, too, counts twice that day
-- <holder>/<id>       what an open call may cost; "<holder>/<id> lost": one of whose end nobody will tell (its holder
--                     died, or no longer knows of it) stays counted at that

-- What stands in the way of a call, and what calls that have ended have cost; nothing where nothing does.
local function money_refuses(key, budget, worst)
    local spent, open, cost = unpack(redis.call('HMGET', key, 'spent', 'open', 'cost'))
    if not spent then
        return 'unseeded', 0
    end
    local mean, settled = tonumber(cost or worst), spent - open
    redis.call('HSET', key, 'cost', whole(mean + (worst - mean) / 16))
    if settled + worst > budget then
        return 'usd_per_day', settled
    elseif spent + worst > budget then
        return 'usd_open', settled
    end
end

local function money_counts(key, member, worst)
    if redis.call('HSETNX', key, member, whole(worst)) == 1 then -- else it is counted already
        redis.call('HINCRBY', key, 'spent', whole(worst))
        redis.call('HINCRBY', key, 'open', whole(worst))
    end
end

local ENDED_MS = 30000 -- longer than the ledger may be asked for

-- A call's worst gives way to what it cost. One that was admitted before the hash was seeded, and that no renewal has
-- brought back since, is not in it yet: the ledger did not know its price.
local function money_settles(key, member, cost, admitted)
    local worst, lost, seeded_at = unpack(redis.call('HMGET', key, member, member .. ' lost', 'seeded_at'))
    if not seeded_at then
        if cost > 0 then
            redis.call('HINCRBY', key, 'ended', whole(cost))
            redis.call('PEXPIRE', key, ENDED_MS)
        end
        return
    elseif worst then
        redis.call('HINCRBY', key, 'open', whole(0 - worst))
    elseif not lost and not (admitted and admitted < tonumber(seeded_at)) then
        return
    end
    redis.call('HINCRBY', key, 'spent', whole(cost - (worst or lost or 0)))
    redis.call('HDEL', key, member, member .. ' lost')
end

-- Its holder lives: a flush took it, and the hash has been seeded since, or it was taken for lost.
local function money_comes_back(key, member, worst)
    local seeded_at, known, lost = unpack(redis.call('HMGET', key, 'seeded_at', member, member .. ' lost'))
    if lost then
        redis.call('HDEL', key, member .. ' lost')
        redis.call('HSET', key, member, lost)
        redis.call('HINCRBY', key, 'open', lost)
    elseif seeded_at and not known then
        money_counts(key, member, worst)
    end
end

-- What the calls of a dead holder cost nobody will say: they stay counted, and nobody waits for them. Of one that lives
-- that goes for the calls it does not know of, by id, up to the latest.
local function money_of_the_dead(key, holder, known, latest_id)
    local fields = redis.call('HGETALL', key)
    for at = 1, #fields, 2 do
        local member = fields[at]
        local id = string.sub(member, 1, #holder + 1) == holder .. '/' and string.match(member, '^%d+$', #holder + 2)
        if id and not (known and (known[id] or tonumber(id) > latest_id)) then
            redis.call('HSET', key, member .. ' lost', fields[at + 1])
            redis.call('HDEL', key, member)
            redis.call('HINCRBY', key, 'open', whole(0 - fields[at + 1]))
        end
    end
end
