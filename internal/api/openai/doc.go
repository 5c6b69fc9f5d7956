// Package openai knows the wire shapes of the OpenAI dialect: how a request
// body reads, what an answer, a chunk and an error look like. Its strict field
// reader serves our own resources too, since they share this error shape.
// It leaves routes, status decisions about the engine, and SSE framing to api,
// and never runs a turn.
package openai
