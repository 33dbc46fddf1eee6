-- deny(key, feed, kind, id, exp, now) denies id until its last token, which
-- ends at exp (Unix seconds), is refused by every verifier. now is in ms. It
-- returns until when that is (Unix seconds), or false if it is past.
--
-- The entry comes before the feed: whoever learns of a denial from the feed
-- finds it in Redis too. Its value is 0 until the feed has the line, so that a
-- run that was cut off in between is completed by the next one, while denying
-- again what is denied writes nothing: with one old token anybody could fill
-- the feed otherwise.
local function deny(key, feed, kind, id, exp, now)
  local last = exp + {{grace}}
  local ttl = last * 1000 - now
  -- Nothing is left to deny. Going on would make a key that never expires.
  if ttl <= 0 then
    return
  end
  local left = redis.call('PTTL', key)
  if left >= ttl - 1000 and redis.call('GET', key) == '1' then
    return last
  end
  ttl = math.max(ttl, left) -- a denial is never shortened
  redis.call('SET', key, '0', 'PX', ttl)
  redis.call('XADD', feed, 'MINID', '~', now - {{horizon}}, '*', 'kind', kind, 'id', id, 'exp', last)
  redis.call('PEXPIRE', feed, {{horizon}})
  redis.call('SET', key, '1', 'PX', ttl)
  return last
end
