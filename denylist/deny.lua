-- deny(key, feed, kind, id, exp, now) denies id until its last token, which
-- ends at exp (Unix seconds), is refused by every verifier. now is in ms.
--
-- The entry comes before the feed: whoever learns of a denial from the feed
-- finds it in Redis too. Cut between the two and run again, it ends up the
-- same; a second line in the feed does no harm.
local function deny(key, feed, kind, id, exp, now)
  local last = exp + {{grace}}
  local ttl = last * 1000 - now
  -- Nothing is left to deny. Going on would make a key that never expires.
  if ttl <= 0 then
    return false
  end
  -- A denial is never shortened.
  if redis.call('PTTL', key) < ttl then
    redis.call('SET', key, '1', 'PX', ttl)
  end
  redis.call('XADD', feed, 'MINID', '~', now - {{horizon}}, '*', 'kind', kind, 'id', id, 'exp', last)
  redis.call('PEXPIRE', feed, {{horizon}})
  return true
end
