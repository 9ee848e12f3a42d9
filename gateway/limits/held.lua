-- What one holder has reserved: a hash by id, "<lane> <date> <epoch> <admitted>". A call that has ended is "ended"
-- until the holder's next renewal and "ended before" until the one behind it, for either may be heard twice: ended, it
-- stays so.
local function has_ended(held)
    return held == 'ended' or held == 'ended before'
end
