-- KEYS: token:revoked:<jti>. ARGV: when it expires, the remaining life in
-- milliseconds ("" for ever), the issuer. What is there never comes to cover less,
-- or for a shorter time; what is not ours keeps its value.

local expires, life, issuers = ARGV[1], tonumber(ARGV[2]), ' ' .. ARGV[3]
local kept = redis.call('GET', KEYS[1])
if kept then
	local left = redis.call('PTTL', KEYS[1])
	if string.sub(kept, 1, 14) ~= 'mcp_gateway/1 ' then
		if left >= 0 then
			if not life then
				redis.call('PERSIST', KEYS[1])
			elseif life > left then
				redis.call('PEXPIRE', KEYS[1], ARGV[2])
			end
		end
		return 0
	end
	local old, others = string.match(kept, '^mcp_gateway/1 (%d+)( .*)$')
	if not old then old, others = '0', ' *' end
	if left < 0 then
		expires, life = '0', nil
	elseif life and left > life then
		expires, life = old, left
	end
	if string.find(others .. ' ', issuers .. ' ', 1, true) then
		issuers = others
	else
		issuers = others .. issuers
	end
end
local value = 'mcp_gateway/1 ' .. expires .. issuers
if life then
	redis.call('SET', KEYS[1], value, 'PX', string.format('%.0f', life))
else
	redis.call('SET', KEYS[1], value)
end
return 0
