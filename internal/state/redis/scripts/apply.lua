-- KEYS: index, expiries, done, and a record per change. ARGV: six per change: what
-- to do, the version that the record must have ("*" for any, "" for none), its
-- life in milliseconds ("" for ever), its key, when it expires, and what is kept.
-- Returns the number of the change that could not be made, or 0. It may be sent
-- again when the answer was lost: done remembers.

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
return 0
