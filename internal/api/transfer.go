package api

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"mneme/internal/api/openai"
	"mneme/internal/engine"
)

// exportChunk is how many bytes of an export leave at once.
const exportChunk = 256 << 10

// exportAgent answers with an agent as one file. An error before its first bytes
// is an answer as everywhere; one after them breaks the connection, so that
// nobody takes a part for the whole.
func exportAgent(x *exchange) error {
	if err := x.pathAgent(); err != nil {
		return err
	}
	withKV, err := x.exportKV()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(&attachment{x}, exportChunk)
	if err = x.engine.Export(namespace, engine.AgentID(x.agent), withKV, out); err == nil {
		err = out.Flush()
	}
	x.torn = err != nil && x.w.status != 0
	return err
}

// exportKV reads ?kv=, which is true when it is not there.
func (x *exchange) exportKV() (bool, error) {
	text, err := x.onlyQuery("kv")
	if err != nil {
		return false, err
	}
	switch text {
	case "", "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, openai.Invalid("kv", "kv must be true or false, not %q", clip(text))
}

// onlyQuery is the value of the one parameter that the URL may have, "" when it
// has none.
func (x *exchange) onlyQuery(name string) (string, error) {
	values := x.r.URL.Query()
	for other, given := range values {
		switch {
		case other != name:
			return "", openai.Invalid(clip(other), "%s is not a known parameter; known: %s", clip(other), name)
		case len(given) > 1:
			return "", openai.Invalid(name, "%s is given %d times", name, len(given))
		}
	}
	return values.Get(name), nil
}

// attachment is an answer that is a file, of a length that is not known before.
type attachment struct{ *exchange }

func (a *attachment) Write(b []byte) (int, error) {
	if a.w.status == 0 {
		h := a.w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", a.agent+".mneme"))
	}
	// A writer without deadlines is a test's; it has no line to hold.
	control := http.NewResponseController(a.w)
	_ = control.SetWriteDeadline(time.Now().Add(writeLimit))
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	n, err := a.w.Write(b)
	if err != nil {
		return n, errGone
	}
	return n, nil
}

// importAgent makes an agent of an export, under the name in ?id= or its own.
func importAgent(x *exchange) error {
	id, err := x.onlyQuery("id")
	if err != nil {
		return err
	}
	if id != "" {
		if err := x.setAgent(id, "id"); err != nil {
			return err
		}
	}
	file, size, err := x.spool()
	if err != nil {
		return err
	}
	defer file.Close()
	a, err := x.engine.Import(x.r.Context(), namespace, engine.AgentID(id), file, size)
	if err == nil && id == "" {
		err = x.adopt(a.ID)
	}
	return x.made(a, err)
}

// adopt takes the name that an export brought along. One that no agent may have
// does not stay.
func (x *exchange) adopt(id engine.AgentID) error {
	err := x.setAgent(string(id), "export")
	if err != nil {
		err = errors.Join(err, x.engine.DeleteAgent(namespace, id))
	}
	return err
}

// spool puts the body into a file without a name, which is gone once closed or
// when the process ends, however it does.
func (x *exchange) spool() (file *os.File, sizeBytes int64, err error) {
	if file, err = os.CreateTemp("", "mneme-import-*"); err != nil {
		return nil, 0, fmt.Errorf("spool: %w", err)
	}
	if err = os.Remove(file.Name()); err == nil {
		sizeBytes, err = x.copyBody(file, x.server.options.ImportLimit)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, sizeBytes, nil
}
