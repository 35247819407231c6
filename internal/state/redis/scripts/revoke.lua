-- KEYS: the revocation. ARGV: when it expires, the remaining life in milliseconds
-- ("" for ever), before, and the rest of its text. What is there never comes to
-- cover less.

local expires, life, before = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local kept = redis.call('GET', KEYS[1])
if kept then
	local left = redis.call('PTTL', KEYS[1])
	local oldExpires, oldBefore = string.match(kept, '^mcp_gateway/1 (%d+) (%d+) ')
	if oldExpires then
		if left < 0 then
			expires, life = '0', nil
		elseif life and left > life then
			expires, life = oldExpires, left
		end
		if oldBefore == '0' or before ~= '0' and tonumber(oldBefore) > tonumber(before) then before = oldBefore end
	end
end
local value = 'mcp_gateway/1 ' .. expires .. ' ' .. before .. ' ' .. ARGV[4]
if life then
	redis.call('SET', KEYS[1], value, 'PX', string.format('%.0f', life))
else
	redis.call('SET', KEYS[1], value)
end
return 0
