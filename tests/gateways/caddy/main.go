// The command caddy is Caddy with nothing in it but what deploy/caddy/Caddyfile
// uses. It exists for the tests, which find it with "go tool -n caddy", and has
// a go.mod of its own so that authapi does not depend on Caddy.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/forwardauth"
)

func main() { caddycmd.Main() }
