// Package responses speaks OpenAI Responses: items instead of messages,
// conversations that go on from a stored response, events in their order.
// It leaves what it has in common with chat completions to ask, what is stored to
// shelf, errors to the dialect of openai, and the turn itself to turn.
package responses
