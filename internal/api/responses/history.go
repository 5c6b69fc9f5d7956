package responses

import (
	"errors"
	"fmt"
	"slices"

	"mneme/internal/api/fields"
	"mneme/internal/api/responses/shelf"
)

// maxPast bounds the responses that one goes on from.
const maxPast = 10_000

// past is what came before a request.
type past struct {
	last   string // the response that the request goes on from, "" for none
	family string // of its agent
	items  []Item
}

// past reads the stored responses that a request names, or those of its
// conversation.
func (d Desk) past(r *Request) (past, error) {
	id := r.Names.Previous
	if id == "" && r.Names.Conversation != "" {
		id = d.Shelf.Newest(string(d.Namespace), r.Names.Conversation)
	}
	p := past{last: id}
	var turns [][]Item
	for id != "" && len(turns) < maxPast {
		record, err := d.Shelf.Get(string(d.Namespace), id)
		if err != nil {
			return past{}, unknown(err, id, "previous_response_id")
		}
		items, err := itemsOf(record)
		if err != nil {
			return past{}, err
		}
		if turns == nil {
			p.family = record.Family
		}
		turns, id = append(turns, items), record.Previous
	}
	slices.Reverse(turns)
	p.items = slices.Concat(turns...)
	return p, nil
}

// itemsOf are the input of a stored response and then its output.
func itemsOf(r shelf.Record) ([]Item, error) {
	o, err := fields.Parse(slices.Concat([]byte(`{"input":`), r.Input, []byte(`,"response":`), r.Response, []byte(`}`)))
	if err != nil {
		return nil, fmt.Errorf("stored response %s: %w", r.ID, errors.New(err.Error()))
	}
	all := slices.Concat(items(o, "input"), items(o.Sub("response"), "output"))
	if err := o.Err(); err != nil {
		return nil, fmt.Errorf("stored response %s: %w", r.ID, errors.New(err.Error()))
	}
	return all, nil
}

// resolve puts the items in place that are referred to.
func (d Desk) resolve(items []Item) ([]Item, error) {
	var all []Item
	for _, i := range items {
		if i.kind != reference {
			all = append(all, i)
			continue
		}
		found, ok, err := d.item(i.id)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, found)
		}
	}
	return all, nil
}

// item finds a stored item; false when it is one that is left out.
func (d Desk) item(id string) (i Item, ok bool, err error) {
	owner := d.Shelf.With(string(d.Namespace), id)
	record, err := d.Shelf.Get(string(d.Namespace), owner)
	if err != nil {
		return i, false, unknown(err, id, "input")
	}
	o, err := fields.Parse(slices.Concat([]byte(`{"input":`), record.Input, []byte(`,"response":`), record.Response, []byte(`}`)))
	if err != nil {
		return i, false, fmt.Errorf("stored response %s: %w", owner, errors.New(err.Error()))
	}
	for _, at := range slices.Concat(o.Objects("input"), o.Sub("response").Objects("output")) {
		if at.Value("id") == id {
			i, ok = item(at)
			return i, ok && i.kind != reference, nil
		}
	}
	return i, false, nil
}
