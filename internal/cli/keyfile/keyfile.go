// Package keyfile is the files of API keys: a line a key, with its name, its
// digest and its limits; and the one of the administrator's key. It makes new
// keys too. What a key opens is access's business.
package keyfile

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"mneme/internal/api/access"
	"mneme/internal/vfs"
)

const (
	secretBytes = 32 // of a new key
	leastAdmin  = 16 // characters of the administrator's
	maxBytes    = 16 << 20
	reserved    = "default" // the namespace of servers without keys
)

var keyName = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// CheckName refuses what no key may be called.
func CheckName(name string) error {
	switch {
	case !keyName.MatchString(name):
		return fmt.Errorf("%q is no name of a key: use 1 to 64 of a-z 0-9 -", name)
	case name == reserved:
		return fmt.Errorf("%q is what agents belong to where there are no keys; use another name", name)
	}
	return nil
}

// New makes a key, and the line for it in a file of keys.
func New(name string, l access.Limits) (key, line string) {
	var secret [secretBytes]byte
	_, _ = rand.Read(secret[:]) // does not fail
	key = "mk_" + base64.RawURLEncoding.EncodeToString(secret[:])
	return key, Line(access.Key{Name: name, Digest: access.DigestOf(key), Limits: l})
}

// Line is a key as a file has it.
func Line(k access.Key) string {
	words := []string{k.Name, hex.EncodeToString(k.Digest[:])}
	for _, o := range options {
		if text := o.show(&k.Limits); text != "" {
			words = append(words, o.name+"="+text)
		}
	}
	return strings.Join(words, " ")
}

// Read reads a file of keys, which nobody but its owner may use. Without a key in
// it the list is empty, not nil. What is wrong with it is said by line.
func Read(path string) ([]access.Key, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	keys, lines := []access.Key{}, map[string]int{}
	for i, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(strings.SplitN(line, "#", 2)[0])
		if len(words) == 0 {
			continue
		}
		k, err := parse(words)
		digest := string(k.Digest[:])
		switch {
		case err != nil:
		case lines[k.Name] > 0:
			err = fmt.Errorf("%s has a key already in line %d", k.Name, lines[k.Name])
		case lines[digest] > 0:
			err = fmt.Errorf("%s has the same key as line %d", k.Name, lines[digest])
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
		lines[k.Name], lines[digest] = i+1, i+1
		keys = append(keys, k)
	}
	return keys, nil
}

// parse reads the words of a line.
func parse(words []string) (k access.Key, err error) {
	k.Name = words[0]
	if err := CheckName(k.Name); err != nil {
		return k, err
	}
	digest, err := hex.DecodeString(cmp.Or(words[1:]...))
	if len(words) < 2 || err != nil || len(digest) != len(k.Digest) {
		return k, fmt.Errorf("after the name comes the SHA-256 of the key, %d hex digits", 2*len(k.Digest))
	}
	k.Digest = access.Digest(digest)
	return k, setOptions(&k.Limits, words[2:])
}

func setOptions(l *access.Limits, words []string) error {
	given := map[string]bool{}
	for _, word := range words {
		name, text, _ := strings.Cut(word, "=")
		if given[name] {
			return fmt.Errorf("%s= is there twice", name)
		}
		given[name] = true
		if err := setOption(l, name, text); err != nil {
			return err
		}
	}
	return nil
}

func setOption(l *access.Limits, name, text string) error {
	for _, o := range options {
		if o.name != name {
			continue
		}
		if err := o.set(l, text); err != nil {
			return fmt.Errorf("%s=: %w", name, err)
		}
		return nil
	}
	return fmt.Errorf("%q is no option; there are requests=60/m, tokens=100000/m, kv=4GiB, weight=2", name)
}

// ReadAdmin reads the administrator's key, the only word of a file that nobody but
// its owner may use.
func ReadAdmin(path string) (*access.Digest, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	key := bytes.TrimSpace(text)
	if len(key) < leastAdmin || bytes.ContainsAny(key, " \t\r\n") {
		return nil, fmt.Errorf("%s must hold one key of %d characters at least, without spaces, and nothing else", path, leastAdmin)
	}
	d := access.DigestOf(string(key))
	return &d, nil
}

func readPrivate(path string) ([]byte, error) {
	text, err := vfs.ReadPrivate(path, maxBytes+1)
	if err == nil && len(text) > maxBytes {
		err = fmt.Errorf("%s has more than %d bytes", path, maxBytes)
	}
	return text, err
}
