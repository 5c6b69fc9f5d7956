// Package records is files of records behind a head, as agents and families have:
// plain, or encrypted with the key of a namespace. It knows how a record goes on
// from the one before, what damage costs, and what the sums tell without a key.
// What the bytes of a record mean is left to format, the keys to keyring.
//
// What stays true:
//   - A record counts in its place, in its file, and nowhere else.
//   - Changed bytes are an error, never a panic; what is allocated for any bytes
//     is bounded by how many there are.
//   - There is no state between calls: no goroutine, no lock, no open file.
package records
