//go:build !race

package postgresstore_test

// underRace: what repeats the same code to meet a rare moment does so in the plain
// run; with the race detector, which is many times slower, a few rounds are enough.
const underRace = false
