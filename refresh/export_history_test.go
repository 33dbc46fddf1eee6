package refresh

import (
	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/script"
)

// RotateSource and EndSource are the scripts that rotate and end.
var (
	RotateSource = rotateLua
	EndSource    = endLua
)

// SetRotateSource makes every store rotate by another script until restore is
// called. No other test may run meanwhile.
func SetRotateSource(source string) (restore func()) {
	original := rotateScript
	rotateScript = script.New(source, script.OnFullRedis)
	return func() { rotateScript = original }
}

// SetEndSource does the same for the script that ends sessions.
func SetEndSource(source string) (restore func()) {
	original := endScript
	endScript = script.New(denylist.Lua()+source, script.OnFullRedis)
	return func() { endScript = original }
}
