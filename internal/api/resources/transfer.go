package resources

import (
	"bufio"
	"errors"
	"fmt"
	"os"

	"mneme/internal/api/fields"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
)

// exportChunk is how many bytes of an export leave at once.
const exportChunk = 256 << 10

// Export answers with an agent as one file. An error before its first bytes is an
// answer as everywhere; one after them breaks the connection.
func (d Desk) Export() error {
	if err := d.PathAgent(); err != nil {
		return err
	}
	withKV, err := d.exportKV()
	if err != nil {
		return err
	}
	file := d.File(string(d.Agent) + ".mneme")
	out := bufio.NewWriterSize(file, exportChunk)
	if err = d.Engine.Export(d.Namespace, d.Agent, withKV, out); err == nil {
		err = out.Flush()
	}
	if err != nil {
		file.Torn()
	}
	return err
}

// exportKV reads ?kv=, which is true when it is not there.
func (d Desk) exportKV() (bool, error) {
	text, err := d.OnlyQuery("kv")
	if err != nil {
		return false, err
	}
	switch text {
	case "", "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, wire.Invalid("kv", "kv must be true or false, not %q", fields.Clip(text))
}

// Import makes an agent of an export, under the name in ?id= or its own.
func (d Desk) Import() error {
	id, err := d.OnlyQuery("id")
	if err != nil {
		return err
	}
	if id != "" {
		if err := d.SetAgent(id, "id"); err != nil {
			return err
		}
	}
	file, size, err := d.spool()
	if err != nil {
		return err
	}
	defer file.Close()
	a, err := d.Engine.Import(d.Request.Context(), d.Namespace, engine.AgentID(id), file, size)
	if err == nil && id == "" {
		err = d.adopt(a.ID)
	}
	return d.made(a, err)
}

// adopt takes the name that an export brought along. One that no agent may have
// does not stay.
func (d Desk) adopt(id engine.AgentID) error {
	err := d.SetAgent(string(id), "export")
	if err != nil {
		err = errors.Join(err, d.Engine.DeleteAgent(d.Namespace, id))
	}
	return err
}

// spool puts the body into a file that is gone once closed.
func (d Desk) spool() (file *os.File, sizeBytes int64, err error) {
	if file, err = unnamed(d.Settings.SpoolDir); err != nil {
		return nil, 0, fmt.Errorf("spool: %w", err)
	}
	if sizeBytes, err = d.CopyBody(file, d.Settings.ImportLimit); err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, sizeBytes, nil
}

// unnamed opens a new file without a name in dir, which is gone once closed or
// when the process ends, however it does.
func unnamed(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, "mneme-import-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	return file, nil
}
