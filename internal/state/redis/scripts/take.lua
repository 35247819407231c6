-- KEYS: the hash. ARGV: the time in seconds ("" for the server's), how many uses,
-- and period, step and limit of each window. Returns the wait in seconds. It
-- counts as state.Counter does. A window has a field with its newest step, and one
-- for each step that has uses.

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
return 0
