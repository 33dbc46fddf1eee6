//go:build !unix

package api

import "syscall"

func closedByPeer(syscall.Conn) bool { return false }
