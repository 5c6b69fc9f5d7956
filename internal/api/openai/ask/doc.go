// Package ask reads what requests of the OpenAI dialect have in common, whichever
// route they came by: sampling, tools, the answer's format, texts in parts, whose
// the conversation is.
// It leaves to openai and responses what is theirs alone.
package ask
