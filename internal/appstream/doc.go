// Package appstream is the domain: what the AppStream nouns are, which states they pass through and what is
// to be done next. It has no I/O, no clock, no SQL and no HTTP; it imports the standard library and the
// AWS SDK's types, which are the canonical shapes of the API.
//
// Each noun has one file: its record, its states with their transition table, and its pure Plan function,
// which takes a snapshot of the world and a time and returns a Decision. The engine (internal/reconcile)
// carries decisions out; the operations (internal/service) write what is wanted.
package appstream
