package anthropic

import (
	"strconv"

	"mneme/internal/api/fields"
	"mneme/internal/api/talk"
)

// readTools takes the tools that the client runs. Those that the vendor's
// servers run, and those whose shape only its models know, are left out.
func (c *conversation) readTools(top node) {
	for _, t := range top.each("tools") {
		if kind := t.Text("type", "custom"); kind == "custom" {
			c.tools = append(c.tools, tool(t))
		}
		if marks(t) && len(c.tools) > 0 {
			c.mark = Mark{At: talk.Place{InTools: true, Index: len(c.tools) - 1}, Kind: MarkInside}
		}
	}
}

func tool(t node) talk.Tool {
	t.Require("name")
	name := t.Text("name", "")
	if name == "" {
		t.Refuse(t.At("name"), "must not be empty")
	}
	return talk.Tool{
		Name:        name,
		Description: t.Text("description", ""),
		Parameters:  t.object("input_schema"),
		Strict:      t.Bool("strict", false),
	}
}

// choice reads which tools are called.
func choice(o *fields.Object) talk.Choice {
	t := o.Sub("tool_choice")
	if t == nil {
		return talk.Choice{}
	}
	t.Require("type")
	c := talk.Choice{Single: t.Bool("disable_parallel_tool_use", false)}
	switch kind := t.Text("type", "auto"); kind {
	case "auto":
	case "any":
		c.Mode = talk.Required
	case "none":
		c.Mode = talk.None
	case "tool":
		t.Require("name")
		c.Mode, c.Name = talk.Named, t.Text("name", "")
	default:
		t.Refuse(t.At("type"), "must be one of auto, any, tool, none, not "+strconv.Quote(fields.Clip(kind)))
	}
	return c
}
