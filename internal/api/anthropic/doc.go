// Package anthropic speaks the Anthropic dialect: messages and their tokens
// counted; how a request reads, what an answer, its events and an error look
// like.
// It leaves prompts and what a model's words mean to talk, bodies, events and
// errors before they are spelled to wire, and the turn itself to turn.
package anthropic
