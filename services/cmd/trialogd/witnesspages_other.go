//go:build !linux

package main

// dropPages does nothing here: see witnesspages_linux.go.
func dropPages() {}
