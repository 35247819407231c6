// Package model drives real nodes of the gateway with random operations on accounts,
// interactive sessions, API tokens, roles, teams and MCP sessions, and compares each answer,
// and what the MCP servers receive, with a model of a few maps.
//
// After each operation, the node where it was made has to answer by it from the very next
// request on, and the other one within a second. A run is repeated by its seed:
//
//	go test ./integration/model -args -seeds 1 -seed 17 -steps 400
package model
