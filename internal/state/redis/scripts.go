package redis

import goredis "github.com/redis/go-redis/v9"

// Each script is one step, whatever else goes on.
var (
	// KEYS: index, expiries, done, and a record per change. ARGV: six per change: what
	// to do, the version that the record must have ("*" for any, "" for none), its
	// life in milliseconds ("" for ever), its key, when it expires, and what is kept.
	// Returns the number of the change that could not be made, or 0. It may be sent
	// again when the answer was lost: done remembers.
	applyScript = goredis.NewScript(`
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
for i = 1, #KEYS - 3 do
	local want = ARGV[i * 6 - 4]
	if want ~= '*' and redis.call('GETRANGE', KEYS[i + 3], 1, 8) ~= want then return i end
end
for i = 1, #KEYS - 3 do
	local at = i * 6 - 5
	local op, life, member, expires = ARGV[at], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
	if op == 'put' then
		if life == '' then
			redis.call('SET', KEYS[i + 3], ARGV[at + 5])
			redis.call('ZREM', KEYS[2], member)
		else
			redis.call('SET', KEYS[i + 3], ARGV[at + 5], 'PX', life)
			redis.call('ZADD', KEYS[2], expires, member)
		end
		redis.call('ZADD', KEYS[1], 0, member)
	elseif op == 'delete' then
		redis.call('DEL', KEYS[i + 3])
		redis.call('ZREM', KEYS[1], member)
		redis.call('ZREM', KEYS[2], member)
	end
end
redis.call('SET', KEYS[3], '1', 'PX', 60000)
return 0`)

	// KEYS: index, expiries. ARGV: from, to, limit, what the keys of records begin
	// with, and how many bytes to return at most. Returns what comes next, and then a
	// key and what is kept, in turn.
	scanScript = goredis.NewScript(`
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
end`)

	// KEYS: index, expiries. ARGV: what the keys of records begin with, how many.
	// Removes the keys of records that have expired. Returns how many.
	sweepScript = goredis.NewScript(`
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
return gone`)

	// KEYS: the hash. ARGV: the time in seconds ("" for the server's), how many uses,
	// and period, step and limit of each window. Returns the wait in seconds. It
	// counts as state.Counter does. A window has a field with its newest step, and one
	// for each step that has uses.
	takeScript = goredis.NewScript(`
local now = tonumber(ARGV[1]) or tonumber(redis.call('TIME')[1])
local n = tonumber(ARGV[2])
local asked = math.max(n, 1)
local have, all = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do have[all[i]] = tonumber(all[i + 1]) end
local wait, life = 0, 0
for w = 3, #ARGV, 3 do
	local period, step, limit = tonumber(ARGV[w]), tonumber(ARGV[w + 1]), tonumber(ARGV[w + 2])
	local id = ARGV[w] .. ':' .. ARGV[w + 1]
	local size = period / step + 1
	local at = math.max(math.floor(now / step), have[id] or 0)
	local sum = 0
	for s = at - size + 1, at do sum = sum + (have[id .. ':' .. s] or 0) end
	local room = limit - asked
	if limit > 0 and room < 0 then
		wait = math.max(wait, period + step)
	elseif limit > 0 then
		for s = at - size + 1, at do
			if sum <= room then break end
			sum = sum - (have[id .. ':' .. s] or 0)
			if sum <= room then wait = math.max(wait, (s + size) * step - now, 1) end
		end
	end
	life = math.max(life, size * step)
end
if wait > 0 or n == 0 then return wait end
for w = 3, #ARGV, 3 do
	local step = tonumber(ARGV[w + 1])
	local id = ARGV[w] .. ':' .. ARGV[w + 1]
	local size = tonumber(ARGV[w]) / step + 1
	local at = math.max(math.floor(now / step), have[id] or 0)
	for s = (have[id] or at) - size + 1, math.min(at - size, have[id] or at) do
		if have[id .. ':' .. s] then redis.call('HDEL', KEYS[1], id .. ':' .. s) end
	end
	redis.call('HINCRBY', KEYS[1], id .. ':' .. at, n)
	redis.call('HSET', KEYS[1], id, at)
end
if redis.call('TTL', KEYS[1]) < life then redis.call('EXPIRE', KEYS[1], life) end
return 0`)

	// KEYS: token:revoked:<jti>. ARGV: when it expires, the remaining life in
	// milliseconds ("" for ever), the issuer. What is there never comes to cover less,
	// or for a shorter time; what is not ours keeps its value.
	revokeIDScript = goredis.NewScript(`
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
return 0`)

	// KEYS: the revocation. ARGV: when it expires, the remaining life in milliseconds
	// ("" for ever), before, and the rest of its text. What is there never comes to
	// cover less.
	revokeScript = goredis.NewScript(`
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
return 0`)
)
