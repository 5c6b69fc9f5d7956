// Package wire carries one request to a handler and its answer back: who asks,
// the body within its limits, JSON, server-sent events, files, what was refused
// and why, the log line and the counts.
// It leaves to a Dialect how a vendor spells an error, to the handlers what is
// answered, and to api which handler a path has.
package wire
