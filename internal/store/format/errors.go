package format

import "mneme/internal/store/records"

// What reading a file can say of it.
type (
	DamagedError = records.DamagedError // what is not as it was written
	VersionError = records.VersionError // it is intact, and of a version that is not read
	KeylessError = records.KeylessError // it is intact, and its key is not there
)

// What encrypts.
type (
	KeyID  = records.KeyID
	Digest = records.Digest
	Cipher = records.Cipher
	Keys   = records.Keys
)
