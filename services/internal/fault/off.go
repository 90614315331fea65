//go:build !faults

package fault

// Hit does nothing: this binary was built without the tag "faults".
func Hit(string) error { return nil }
