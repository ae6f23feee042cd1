-- Comes before the body of every script that moves money in a partition's books. The books are a hash:
-- accepted, unsettled, settled and dead, in atomic units since the partition was new. Each is added to where it changes,
-- so that accepted = settled + unsettled + dead says that nothing was forgotten and nothing counted twice.
--
-- A sum has two fields, as Lua numbers are doubles: `<name>` and `<name>_e10`, which counts ten thousand millions. The
-- field `booked` of a channel says up to which amount (20 digits) it is in the books; without one, from what the issuer
-- had paid before.
--
-- KEYS[1…], ARGV[1…] and Returns: those of the script that follows.

local NOTHING = string.rep('0', 20)

-- What lies between two amounts of 20 digits, in ten thousand millions and rest; nothing if the second is no higher.
local function between(before, after)
  if after <= before then
    return 0, 0
  end
  local high = tonumber(string.sub(after, 1, 10)) - tonumber(string.sub(before, 1, 10))
  return high, tonumber(string.sub(after, 11)) - tonumber(string.sub(before, 11))
end

local function whole(number)
  return string.format('%.0f', number)
end

local function add(books, name, high, low)
  if low ~= 0 then
    local sum = redis.call('HINCRBY', books, name, whole(low))
    -- Far below where a double or Redis would end: carried over now and then, not each time.
    if sum >= 1e15 or sum <= -1e15 then
      local carry = (sum - sum % 1e10) / 1e10
      redis.call('HINCRBY', books, name, whole(-carry * 1e10))
      high = high + carry
    end
  end
  if high ~= 0 then
    redis.call('HINCRBY', books, name .. '_e10', whole(high))
  end
end

-- Enters what was accepted on a channel up to `amount` and is not in the books yet.
local function enter(books, hash, amount)
  local marks = redis.call('HMGET', hash, 'booked', 'settled_before')
  local booked = marks[1] or marks[2] or NOTHING
  if amount > booked then
    local high, low = between(booked, amount)
    redis.call('HSET', hash, 'booked', amount)
    add(books, 'accepted', high, low)
    add(books, 'unsettled', high, low)
  end
  return marks[2] or NOTHING
end

-- A close ended for `amount`: what was accepted on the channel goes over to `name`.
local function close(books, hash, amount, name)
  local high, low = between(enter(books, hash, amount), amount)
  add(books, 'unsettled', -high, -low)
  add(books, name, high, low)
end

-- A close that was given up on is to be tried again: what is dead is unsettled once more.
local function take_up(books, hash, amount)
  local marks = redis.call('HMGET', hash, 'booked', 'settled_before')
  if not marks[1] then
    -- Given up on before there were books.
    enter(books, hash, amount)
    return
  end
  local high, low = between(marks[2] or NOTHING, amount)
  add(books, 'dead', -high, -low)
  add(books, 'unsettled', high, low)
end

