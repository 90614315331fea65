package postgresstore

// LoseLock makes the store lose its lock without noticing, as when its process is
// stopped and its connection is ended meanwhile.
func (s *Store) LoseLock() error { return s.owner.close() }

// Epoch is the owner's.
func (s *Store) Epoch() int64 { return s.owner.epoch }
