// Package access says who may ask this server for what: whose API key a request
// has, what is left of that key's limits, and whether a web page is behind it.
// It leaves files of keys and flags to cli, the shape of refusals to wire's
// dialects, and which path has which door to api.
package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"time"
)

// Digest is the SHA-256 of a key. Keys are 256 random bits, so there is nothing
// to guess and a plain hash is enough: a slow one would only slow each request.
type Digest [sha256.Size]byte

// DigestOf is the digest of a key.
func DigestOf(key string) Digest { return sha256.Sum256([]byte(key)) }

// is compares in a time that does not depend on where two digests differ.
func (d Digest) is(other Digest) bool { return subtle.ConstantTimeCompare(d[:], other[:]) == 1 }

// Key is one holder of a key. Its name is the namespace of all that is theirs:
// agents, blocks, lineages, responses.
type Key struct {
	Name   string
	Digest Digest
	Limits Limits
}

// Limits are a key's; zero values are none.
type Limits struct {
	Requests  Rate
	Tokens    Rate  // prompt tokens that were computed, and those generated
	DiskBytes int64 // of its agents
	Weight    int   // of its share beside other keys; 0 is 1
}

// Rate is so much in a time, as in 60 a minute.
type Rate struct {
	Amount int64
	Per    time.Duration
}

// String is the rate as files of keys have it: 60/m.
func (r Rate) String() string {
	for _, u := range Units {
		if u.Per == r.Per {
			return fmt.Sprintf("%d/%s", r.Amount, u.Sign)
		}
	}
	return fmt.Sprintf("%d per %v", r.Amount, r.Per)
}

// Unit is a time that rates are of.
type Unit struct {
	Sign string
	Per  time.Duration
}

// Units are all of them.
var Units = []Unit{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}}

// Ring is the keys that open a server's doors.
type Ring struct {
	Keys  []Key   // nil: nobody needs one; empty: nobody has one
	Admin *Digest // of the administrator's key; nil: there is none
}

// holder finds whose key it is. All keys are looked at, whichever it is.
func (r Ring) holder(key string) (found *Key) {
	d := DigestOf(key)
	for i := range r.Keys {
		if r.Keys[i].Digest.is(d) {
			found = &r.Keys[i]
		}
	}
	return found
}

// administrator says whether a key is the administrator's.
func (r Ring) administrator(key string) bool { return r.Admin != nil && r.Admin.is(DigestOf(key)) }
