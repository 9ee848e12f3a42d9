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

local function money_at(key, member)
    local spent, open, cost, counted, lost, seeded_at = unpack(
        redis.call('HMGET', key, 'spent', 'open', 'cost', member, member .. ' lost', 'seeded_at'))
    return {key = key, member = member, spent = spent, open = open, cost = cost, counted = counted, lost = lost,
            seeded_at = seeded_at}
end

-- What stands in the way of a call, and what calls that have ended have cost; nothing where nothing does.
local function money_refuses(money, budget, worst)
    if not money.spent then
        return 'unseeded', 0
    end
    local settled, in_the_way = money.spent - money.open, nil
    if settled + worst > budget then
        in_the_way = 'usd_per_day'
    elseif money.spent + worst > budget then
        in_the_way = 'usd_open'
    end
    money.cost = whole((money.cost or worst) + (worst - (money.cost or worst)) / 16)
    if in_the_way then
        redis.call('HSET', money.key, 'cost', money.cost)
        return in_the_way, settled
    end
end

local function money_counts(money, worst)
    if not money.counted then -- else it is counted already
        redis.call('HSET', money.key, money.member, whole(worst), 'spent', whole(money.spent + worst),
                   'open', whole(money.open + worst), 'cost', money.cost or whole(worst))
    end
end

local ENDED_MS = 30000 -- longer than the ledger may be asked for

-- A call's worst gives way to what it cost. One that was admitted before the hash was seeded, and that no renewal has
-- brought back since, is not in it yet: the ledger did not know its price.
local function money_settles(key, member, cost, admitted)
    local money = money_at(key, member)
    local worst, lost = money.counted, money.lost
    if not money.seeded_at then
        if cost > 0 then
            redis.call('HINCRBY', key, 'ended', whole(cost))
            redis.call('PEXPIRE', key, ENDED_MS)
        end
    elseif worst then
        redis.call('HSET', key, 'open', whole(money.open - worst), 'spent', whole(money.spent + cost - worst))
        redis.call('HDEL', key, member)
    elseif lost or admitted < tonumber(money.seeded_at) then
        redis.call('HSET', key, 'spent', whole(money.spent + cost - (lost or 0)))
        redis.call('HDEL', key, member .. ' lost')
    end
end

-- Its holder lives: a flush took it, and the hash has been seeded since, or it was taken for lost.
local function money_comes_back(key, member, worst)
    local money = money_at(key, member)
    if money.lost then
        redis.call('HDEL', key, member .. ' lost')
        redis.call('HSET', key, member, money.lost, 'open', whole(money.open + money.lost))
    elseif money.seeded_at then
        money_counts(money, worst)
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
