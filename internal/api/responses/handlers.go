package responses

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"mneme/internal/api/responses/shelf"
	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
)

// Desk makes responses and keeps them.
type Desk struct {
	*turn.Desk
	Shelf *shelf.Shelf
}

// Create is the handler of POST /v1/responses.
func (d Desk) Create() error {
	d.Input = "input"
	if err := d.NameAgent(); err != nil {
		return err
	}
	m, err := d.newMaking()
	if err != nil {
		return err
	}
	if m.ask.Stream {
		return m.streamed()
	}
	return m.whole()
}

// Get is the handler of GET /v1/responses/{id}.
func (d Desk) Get() error {
	r, err := d.stored()
	if err != nil {
		return err
	}
	return d.JSON(http.StatusOK, r.Response)
}

// deletion is the answer to a DELETE.
type deletion struct {
	ID      string `json:"id"`
	Object  string `json:"object"` // "response"
	Deleted bool   `json:"deleted"`
}

// Delete is the handler of DELETE /v1/responses/{id}.
func (d Desk) Delete() error {
	r, err := d.stored()
	if err == nil {
		err = d.Shelf.Delete(string(d.Namespace), r.ID)
	}
	if err != nil {
		return unknown(err, r.ID, "response_id")
	}
	return d.JSON(http.StatusOK, deletion{r.ID, "response", true})
}

// stored is the response that the path names.
func (d Desk) stored() (shelf.Record, error) {
	id := d.Request.PathValue("id")
	r, err := d.Shelf.Get(string(d.Namespace), id)
	if errors.Is(err, shelf.ErrUnstored) {
		err = shelf.ErrUnknown
	}
	return r, unknown(err, id, "response_id")
}

// unknown says that there is no response of a name that stood in param.
func unknown(err error, id, param string) error {
	switch {
	case errors.Is(err, shelf.ErrUnknown):
		return &wire.Error{Status: http.StatusNotFound, Param: param, Code: "response_not_found", Message: fmt.Sprintf("no response with id %q is stored here", id)}
	case errors.Is(err, shelf.ErrUnstored):
		return wire.Invalid(param, "the response %q was made with store: false, so nothing of it was kept", id)
	}
	return err
}

// keep stores a response that is whole, or notes that it is not to be.
func (m *making) keep() error {
	namespace := string(m.desk.Namespace)
	if !m.ask.Store {
		m.desk.Shelf.Unstored(namespace, m.answer.ID)
		return nil
	}
	answer, err := json.Marshal(m.answer)
	if err != nil {
		return err
	}
	return m.desk.Shelf.Put(shelf.Record{
		ID: m.answer.ID, Namespace: namespace, Previous: m.previous, Conversation: m.ask.Names.Conversation,
		Family: m.family(), Input: m.ask.Input, Response: answer,
	})
}
