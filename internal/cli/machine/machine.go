// Package machine asks the system we run on: how much memory and disk there
// is, and that its terminal keeps quiet. What follows from the answers is cli's business.
package machine
