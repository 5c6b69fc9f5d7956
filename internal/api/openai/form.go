package openai

import (
	"mneme/internal/api/fields"
	"mneme/internal/api/openai/ask"
)

// Form is how an answer is wanted.
type Form struct {
	Stream         bool
	IncludeUsage   bool // in a last event of the stream
	ReturnTokenIDs bool
}

func form(o *fields.Object) Form {
	f := Form{Stream: o.Bool("stream", false), ReturnTokenIDs: o.Bool("return_token_ids", false)}
	f.IncludeUsage = includeUsage(o, f.Stream)
	return f
}

func includeUsage(o *fields.Object, stream bool) bool {
	s := o.Sub("stream_options")
	if s == nil {
		return false
	}
	if !stream {
		o.Refuse("stream_options", "is allowed only when stream is true")
	}
	return s.Bool("include_usage", false)
}

// onlyOne refuses a count of answers that is not 1.
func onlyOne(o *fields.Object, key string) {
	if o.Int(key, 1, 1, ask.MaxInt) != 1 {
		o.Refuse(key, "must be 1: there is one choice for each prompt")
	}
}
