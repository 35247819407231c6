-- KEYS: index, expiries. ARGV: from, to, limit, what the keys of records begin
-- with, and how many bytes to return at most. Returns what comes next, and then a
-- key and what is kept, in turn.

local found, size, looked, from, last = {''}, 0, 0, ARGV[1], ''
local limit, most = tonumber(ARGV[3]), tonumber(ARGV[5])
while true do
	local members = redis.call('ZRANGEBYLEX', KEYS[1], from, ARGV[2], 'LIMIT', 0, 100)
	if #members == 0 then return found end
	for _, member in ipairs(members) do
		if limit == 0 or size >= most or looked == 10000 then
			found[1] = last
			return found
		end
		local kept = redis.call('GET', ARGV[4] .. member)
		if kept then
			found[#found + 1] = member
			found[#found + 1] = kept
			size = size + #kept
			limit = limit - 1
		else
			redis.call('ZREM', KEYS[1], member)
			redis.call('ZREM', KEYS[2], member)
		end
		looked = looked + 1
		last = member
	end
	from = '(' .. last
end
