-- KEYS: index, expiries. ARGV: what the keys of records begin with, how many.
-- Removes the keys of records that have expired. Returns how many.

local now = redis.call('TIME')
local members = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now[1] .. '000', 'LIMIT', 0, ARGV[2])
local gone = 0
for _, member in ipairs(members) do
	if redis.call('EXISTS', ARGV[1] .. member) == 0 then
		redis.call('ZREM', KEYS[1], member)
		redis.call('ZREM', KEYS[2], member)
		gone = gone + 1
	end
end
return gone
