package parts

// RootOf is rootOf, for the test that holds it against the reference.
func RootOf(leaf [32]byte, index, size uint64, path []byte) ([32]byte, bool) {
	return rootOf(leaf, index, size, path)
}
