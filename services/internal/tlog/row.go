package tlog

import "context"

// RowKind says what a stored row is.
type RowKind byte

// The kinds of rows.
const (
	RowOther    RowKind = iota // none of the others, or unreadable as what it should be
	RowRoot                    // the latest root: Root
	RowLeaf                    // a leaf: Index, Identity, Value, Hash
	RowIdentity                // the identity index: Identity, Index
	RowNode                    // a tree node: Level, Index, Hash
)

// Row is a row of a log's storage as it is stored: nothing about it has been
// checked but that it can be read.
type Row struct {
	Kind RowKind
	// Place names the row to a person, in the storage's own terms.
	Place string
	// Tree is the tree it belongs to, by the storage's number.
	Tree  int64
	Index uint64
	// Level is the node's height above the leaves.
	Level    int
	Identity [32]byte
	// Hash is the node's, or the leaf's Merkle hash as it stands in the row.
	Hash  [32]byte
	Value []byte
	Root  Root
	// Err says why the row cannot be read; only Kind, Place and perhaps Tree and
	// Index are set then.
	Err error
}

// Rows is a storage that shows its rows one by one, for those who look for
// damage: they must see what a Log would refuse to return.
type Rows interface {
	// Rows calls visit for the rows behind the cursor, in the storage's order,
	// until it has seen limit of the storage's records or visit returns false. A
	// record may hold many rows, which are all visited. It returns the cursor to
	// go on from; nil after the last record. A nil cursor begins. What is written
	// meanwhile may be seen or not.
	//
	// The error is of the storage engine itself and names its file if it knows
	// it; what lies behind the cursor that comes with it was not seen.
	Rows(ctx context.Context, cursor []byte, limit int, visit func(Row) bool) (next []byte, err error)
}
