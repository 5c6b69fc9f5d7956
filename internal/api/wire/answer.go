package wire

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// JSON answers with value as the whole body.
func (x *Exchange) JSON(status int, value any) error {
	body, err := encode(value)
	if err != nil {
		return err
	}
	x.Header().Set("Content-Type", "application/json")
	x.w.WriteHeader(status)
	if _, err := x.w.Write(append(body, '\n')); err != nil {
		return ErrGone
	}
	return nil
}

// Empty answers with a status and no body.
func (x *Exchange) Empty(status int) error {
	x.w.WriteHeader(status)
	return nil
}

// List wraps the entries of a listing.
type List[T any] struct {
	Object string `json:"object"` // "list"
	Data   []T    `json:"data"`
}

// NewList never has null for its data.
func NewList[T any](data []T) List[T] {
	if data == nil {
		data = []T{}
	}
	return List[T]{"list", data}
}

// encode is json.Marshal that leaves <, > and & as they are.
func encode(value any) ([]byte, error) {
	var b lineBuffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, fmt.Errorf("encode %T: %w", value, err)
	}
	return b.line(), nil
}

// lineBuffer collects what json.Encoder writes, which ends in a newline.
type lineBuffer []byte

func (b *lineBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func (b lineBuffer) line() []byte { return b[:len(b)-1] }

// File is an answer that is a file, of a length that is not known before.
// Nothing is sent before its first bytes.
type File struct {
	x    *Exchange
	name string
}

// File makes the answer a file of that name.
func (x *Exchange) File(name string) *File { return &File{x, name} }

// Write sends bytes; ErrGone when nobody reads them.
func (f *File) Write(b []byte) (int, error) {
	w := f.x.w
	if w.status == 0 {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", f.name))
	}
	// A writer without deadlines is a test's; it has no line to hold.
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(writeLimit))
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	n, err := w.Write(b)
	if err != nil {
		return n, ErrGone
	}
	return n, nil
}

// Torn notes that the file broke off: if something of it was sent, the
// connection is broken too, so that nobody takes a part for the whole.
func (f *File) Torn() { f.x.torn = f.x.w.status != 0 }

// writer remembers the status.
type writer struct {
	http.ResponseWriter
	status int // 0 until the header is written
}

func (w *writer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
