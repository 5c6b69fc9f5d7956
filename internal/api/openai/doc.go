// Package openai speaks the OpenAI dialect: chat completions, legacy completions
// and models; how a request reads, what an answer, a chunk and an error look like.
// It leaves bodies, events and errors before they are spelled to wire, and the
// turn itself to turn.
package openai
