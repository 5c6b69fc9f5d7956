package resources

import (
	"fmt"
	"net/http"
	"strconv"

	"mneme/internal/api/diagnose"
	"mneme/internal/api/fields"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
	"mneme/internal/engine/reuse"
)

// cacheJSON says where the KV of a turn's prompt came from, and why the rest was
// computed. Counts are tokens.
type cacheJSON struct {
	Object   string       `json:"object"` // "turn.cache"
	Agent    string       `json:"agent"`
	Turn     int          `json:"turn"`
	Prompt   int          `json:"prompt_tokens"`
	Cached   int          `json:"cached_tokens"`
	Computed int          `json:"computed_tokens"`
	Sources  *sourcesJSON `json:"sources"` // null where it is not known any more
	Reason   *string      `json:"reason"`  // null when all that can be reused was
	Message  *int         `json:"message,omitempty"`
	divergenceJSON
}

// sourcesJSON splits the cached tokens.
type sourcesJSON struct {
	Hot      int `json:"hot"`
	Shared   int `json:"shared"`
	Restored int `json:"restored"`
}

// divergenceJSON is where a prompt differs from what the agent had seen; nulls where
// it does not.
type divergenceJSON struct {
	Token  *int    `json:"first_divergent_token"`
	Offset *int    `json:"text_offset"` // in bytes of what both have
	Before *string `json:"before"`      // the text around it, as it was
	After  *string `json:"after"`       // and as it is
}

// notKept is the reason of a turn that is too long ago, or before the start.
const notKept = "not_kept"

// Cache answers with what a turn had of its prompt, and why not more.
func (d Desk) Cache() error {
	if err := d.PathAgent(); err != nil {
		return err
	}
	t, err := d.pathTurn()
	if err != nil {
		return err
	}
	answer := cacheJSON{
		Object: "turn.cache", Agent: string(d.Agent), Turn: t.Turn,
		Prompt: t.Prompt, Cached: t.Cached, Computed: t.Prompt - t.Cached,
	}
	if r, ok := d.Engine.Reuse(d.Namespace, d.Agent, t.Turn); ok {
		answer.explain(r, d.Prints.Turn(d.Namespace, d.Agent, t.Turn))
	} else {
		answer.because(notKept)
	}
	return d.JSON(http.StatusOK, answer)
}

// pathTurn is the turn that the path names, as far as it is listed.
func (d Desk) pathTurn() (engine.TurnInfo, error) {
	text := d.Request.PathValue("n")
	turns, err := d.Engine.Turns(d.Namespace, d.Agent)
	if err != nil {
		return engine.TurnInfo{}, err
	}
	for _, t := range turns {
		if strconv.Itoa(t.Turn) == text {
			return t, nil
		}
	}
	return engine.TurnInfo{}, &wire.Error{
		Status: http.StatusNotFound, Param: "n", Code: "turn_not_found",
		Message: fmt.Sprintf("agent %s has no turn %s; it has %d", d.Agent, strconv.Quote(fields.Clip(text)), len(turns)),
	}
}

func (c *cacheJSON) explain(r reuse.Report, f diagnose.Finding) {
	c.Sources = &sourcesJSON{r.Hot, r.Shared, r.Restored}
	reason := diagnose.Explain(r, f)
	c.because(string(reason))
	if reason == diagnose.HistoryEdited {
		c.Message = &f.Message
	}
	if diagnose.Diverged(r) {
		c.divergenceJSON = divergenceJSON{&r.Diverged, &r.Offset, &r.Known, &r.Asked}
	}
}

func (c *cacheJSON) because(reason string) {
	if reason != "" {
		c.Reason = &reason
	}
}
