package roster

import (
	"fmt"
	"strconv"
	"strings"
)

// ID names an agent within its namespace.
type ID string

// Namespace says who may share blocks with whom.
type Namespace string

// Key names an agent.
type Key struct {
	Namespace Namespace
	ID        ID
}

const maxIDBytes = 256

// Check says why an agent may not be called so, or nil.
func (id ID) Check() error {
	name, _ := id.member()
	switch {
	case len(name) == 0 || len(id) > maxIDBytes || strings.IndexFunc(string(name), outside) >= 0:
		return fmt.Errorf("must be 1 to %d characters of A-Z a-z 0-9 . _ : -, not %q", maxIDBytes, id.clipped())
	case id == "." || id == "..":
		return fmt.Errorf("must not be %q: in a URL that is no name", string(id))
	}
	return nil
}

// member takes a name apart into its family's and its number in it: the server
// calls further members of a family name~2, name~3 and so on.
func (id ID) member() (family ID, number int) {
	name, suffix, found := strings.Cut(string(id), "~")
	n, err := strconv.Atoi(suffix)
	if !found || err != nil || n < 2 || strconv.Itoa(n) != suffix {
		return id, 1
	}
	return ID(name), n
}

// numbered is the name of a family's n-th member.
func (id ID) numbered(n int) ID {
	if n == 1 {
		return id
	}
	return ID(fmt.Sprintf("%s~%d", id, n))
}

func outside(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("._:-", r)
}

// clipped keeps a message short when an id is long.
func (id ID) clipped() string {
	const most = 64
	if len(id) <= most {
		return string(id)
	}
	return string(id[:most]) + "…"
}
