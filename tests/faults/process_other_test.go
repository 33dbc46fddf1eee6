//go:build !linux

package faults_test

func hasStopped(int) bool { return true }
