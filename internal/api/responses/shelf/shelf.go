// Package shelf keeps responses for requests that refer to them later: by their
// id, by a conversation, by an item. It knows files, bounds and what is dropped.
// What items mean is left to responses.
package shelf

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"mneme/internal/vfs"
)

// Record is one response.
type Record struct {
	ID           string          `json:"id"`
	Namespace    string          `json:"namespace"`
	Previous     string          `json:"previous,omitempty"` // the response that the conversation goes on from
	Conversation string          `json:"conversation,omitempty"`
	Family       string          `json:"family"`   // of its agent
	Input        json.RawMessage `json:"input"`    // a list of items
	Response     json.RawMessage `json:"response"` // as it was answered; its member output is a list of items
	Order        int64           `json:"order"`    // later ones have more; set by Put
}

var (
	// ErrUnknown is returned for what is not here, or is another namespace's.
	ErrUnknown = errors.New("no such response")
	// ErrUnstored is returned for a response that was not to be stored.
	ErrUnstored = errors.New("the response was not stored")
)

// Options are where and how much is kept.
type Options struct {
	FS           vfs.FS
	Dir          string // "": in memory only
	MaxResponses int    // default 4096
	MaxBytes     int64  // of records; default 256 MiB, in memory 64 MiB
}

func (o Options) withDefaults() Options {
	if o.MaxResponses <= 0 {
		o.MaxResponses = 4096
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 256 << 20
		if o.Dir == "" {
			o.MaxBytes = 64 << 20
		}
	}
	return o
}

// Shelf is the responses of all namespaces.
//   - What Put took is found after a crash too, unless all is in memory.
//   - Beyond its bounds it drops the oldest.
//   - Nobody finds what another namespace put there.
//
// No lock is held over I/O; one id is put once.
type Shelf struct {
	o Options

	mu       sync.Mutex
	entries  map[string]*entry
	ids      []string // the oldest first
	bytes    int64
	last     int64 // Order of the newest
	unstored []key // the oldest first
}

// key is a name within a namespace.
type key struct{ namespace, name string }

// entry is what memory has of a record.
type entry struct {
	namespace, conversation string
	items                   []string // ids of its items
	size                    int64
	data                    []byte // nil when it is on disk
}

// maxUnstored bounds the ids of responses that were not to be stored.
const maxUnstored = 1024

// Put keeps a record; durable when nil.
func (s *Shelf) Put(r Record) error {
	s.mu.Lock()
	s.last++
	r.Order = s.last
	s.mu.Unlock()
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("keep response %s: %w", r.ID, err)
	}
	if int64(len(data)) > s.o.MaxBytes {
		return fmt.Errorf("keep response %s: it has %d bytes, all together may have %d", r.ID, len(data), s.o.MaxBytes)
	}
	e := newEntry(r, int64(len(data)))
	if s.o.Dir == "" {
		e.data = data
	} else if err := vfs.WriteFile(s.o.FS, s.path(r.ID), encode(data)); err != nil {
		return fmt.Errorf("keep response %s: %w", r.ID, err)
	}
	return s.remove(s.add(r.ID, e))
}

// add enters a record and gives the ids that had to go for it.
func (s *Shelf) add(id string, e *entry) (dropped []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(id)
	s.entries[id], s.ids, s.bytes = e, append(s.ids, id), s.bytes+e.size
	for len(s.ids) > s.o.MaxResponses || s.bytes > s.o.MaxBytes {
		dropped = append(dropped, s.ids[0])
		s.dropLocked(s.ids[0])
	}
	return dropped
}

func (s *Shelf) dropLocked(id string) {
	e := s.entries[id]
	if e == nil {
		return
	}
	delete(s.entries, id)
	s.bytes -= e.size
	s.ids = slices.DeleteFunc(s.ids, func(other string) bool { return other == id })
}

// Get finds a record. The error is ErrUnknown, ErrUnstored, or the disk's.
func (s *Shelf) Get(namespace, id string) (Record, error) {
	s.mu.Lock()
	e, unstored := s.entries[id], slices.Contains(s.unstored, key{namespace, id})
	s.mu.Unlock()
	switch {
	case unstored:
		return Record{}, ErrUnstored
	case e == nil || e.namespace != namespace:
		return Record{}, ErrUnknown
	case e.data == nil:
		return s.read(id)
	}
	var r Record
	err := json.Unmarshal(e.data, &r)
	return r, err
}

// Delete forgets a record, durably. The errors are those of Get.
func (s *Shelf) Delete(namespace, id string) error {
	s.mu.Lock()
	e := s.entries[id]
	s.mu.Unlock()
	if e == nil || e.namespace != namespace {
		return ErrUnknown
	}
	if err := s.remove([]string{id}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(id)
	return nil
}

// Unstored notes the id of a response that is not to be stored.
func (s *Shelf) Unstored(namespace, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unstored) == maxUnstored {
		s.unstored = s.unstored[1:]
	}
	s.unstored = append(s.unstored, key{namespace, id})
}

// Newest is the last response of a conversation, "" when it has none.
func (s *Shelf) Newest(namespace, conversation string) string {
	return s.find(func(e *entry) bool { return e.namespace == namespace && e.conversation == conversation })
}

// With is the last response that has an item, "" when none has.
func (s *Shelf) With(namespace, item string) string {
	return s.find(func(e *entry) bool { return e.namespace == namespace && slices.Contains(e.items, item) })
}

func (s *Shelf) find(is func(*entry) bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Backward(s.ids) {
		if is(s.entries[id]) {
			return id
		}
	}
	return ""
}

// newEntry finds the ids of a record's items.
func newEntry(r Record, size int64) *entry {
	type item struct{ ID string }
	var (
		input  []item
		output struct{ Output []item }
		e      = &entry{namespace: r.Namespace, conversation: r.Conversation, size: size}
	)
	_ = json.Unmarshal(r.Input, &input) // what is none has no ids
	_ = json.Unmarshal(r.Response, &output)
	for _, i := range slices.Concat(input, output.Output) {
		if i.ID != "" {
			e.items = append(e.items, i.ID)
		}
	}
	return e
}
