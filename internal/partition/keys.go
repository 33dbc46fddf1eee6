package partition

// Keys makes key names under one prefix. The prefix must contain no brace: the
// first brace of a key opens its hash tag.
type Keys struct{ Prefix string }

// Session names the hash of one session.
func (k Keys) Session(p ID, sid string) string { return k.in(p) + "session:" + sid }

// User names the sorted set of a subject's session ids.
func (k Keys) User(sub string) string { return k.in(Of(sub)) + "user:" + sub }

// Account names the hash of an account of the built-in directory.
func (k Keys) Account(name string) string { return k.in(Of(name)) + "account:" + name }

// Accounts is the pattern, for SCAN, that every account's key matches. The
// prefix's own characters never need escaping: configuration allows no others.
func (k Keys) Accounts() string { return k.Prefix + ":{??}:account:*" }

// Name names the string that holds the account name of a subject.
func (k Keys) Name(sub string) string { return k.in(Of(sub)) + "name:" + sub }

// Deny names the string whose existence denies a sid, a jti or a kid.
func (k Keys) Deny(p ID, id string) string { return k.in(p) + "deny:" + id }

// Feed names the stream of denials of one partition.
func (k Keys) Feed(p ID) string { return k.in(p) + "feed" }

// Beat names the string that says when somebody last wrote into a partition's
// feed, or would have.
func (k Keys) Beat(p ID) string { return k.in(p) + "beat" }

// Tries names the string that counts tries, of an account or an address for
// example, by a hash of what is counted.
func (k Keys) Tries(p ID, id string) string { return k.in(p) + "tries:" + id }

// Mark names the string that is written behind what replicas must acknowledge.
func (k Keys) Mark(p ID) string { return k.in(p) + "mark" }

// Keyring names the sealed signing keys, which belong to no partition.
func (k Keys) Keyring() string { return k.Prefix + ":keyring" }

// KeyringMark is the mark beside the signing keys. Its hash tag is all of their
// key's name.
func (k Keys) KeyringMark() string { return k.Prefix + ":{" + k.Keyring() + "}:mark" }

func (k Keys) in(p ID) string { return k.Prefix + ":{" + p.Tag() + "}:" }
