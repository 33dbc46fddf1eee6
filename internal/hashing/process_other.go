//go:build !unix

package hashing

import "os/exec"

func giveWay() {}

func apart(*exec.Cmd) {}
