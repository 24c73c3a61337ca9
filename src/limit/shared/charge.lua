-- Charges rows, one a key: advances of three rates in microseconds, and spans of one budget; all zero only looks.
-- Answers four numbers a row: how far each rate's state is ahead of now, and how much of the budget is spent.
-- ARGV: the most that a state may be ahead (microseconds), how long a budget is kept (milliseconds), the rows.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local most, kept = tonumber(ARGV[1]), tonumber(ARGV[2])
local rates = {'r', 's', 'b'}
local answer = {}
local at = 3
for _, key in ipairs(KEYS) do
  local held = redis.call('HMGET', key, 'r', 's', 'b', 'n')
  local written = {}
  local longest = 0
  for place, rate in ipairs(rates) do
    local by = tonumber(ARGV[at])
    local ahead = math.min(math.max((tonumber(held[place]) or 0) - now, 0), most)
    if by ~= 0 then
      ahead = math.min(math.max(ahead + by, 0), most)
      written[#written + 1] = rate
      written[#written + 1] = string.format('%.0f', now + ahead)
    end
    longest = math.max(longest, ahead)
    answer[#answer + 1] = ahead
    at = at + 1
  end
  local by = tonumber(ARGV[at])
  local spent = tonumber(held[4]) or 0
  if by ~= 0 then
    spent = math.max(spent + by, 0)
    written[#written + 1] = 'n'
    written[#written + 1] = string.format('%.0f', spent)
  end
  answer[#answer + 1] = spent
  at = at + 1
  if #written > 0 then
    redis.call('HSET', key, unpack(written))
    local life = math.ceil(longest / 1000) + 1000
    if spent > 0 then
      life = math.max(life, kept)
    end
    redis.call('PEXPIRE', key, life)
  end
end
return answer
