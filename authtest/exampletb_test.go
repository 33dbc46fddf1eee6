package authtest_test

import (
	"fmt"
	"testing"
)

// exampleT is for an Example, which has no *testing.T: what would fail a test
// is printed.
type exampleT struct{ testing.TB }

func (exampleT) Helper()                           {}
func (exampleT) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (exampleT) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
