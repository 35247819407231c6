// Package differential tests that nobody reads a message otherwise than the gateway.
//
// Bodies near valid ones go through the real mcp_auth handler. What it lets through is
// given, byte for byte, to the readers that servers are made of: Node's JSON.parse,
// Python's json, Go's encoding/json into structs and maps, and the Streamable HTTP servers
// of the official SDKs (TypeScript 1.x and 2.x, Go). All must see the method, the object and
// the arguments that the gateway judged, or nothing at all. The same is done with answers:
// what the clients made of these readers find in a list must be what the principal may see.
//
// TestRequests and TestAnswers make bodies for a minute, anew on each run; -for and -seed
// choose otherwise. FuzzRequest and FuzzAnswer do the same with Go's fuzzing, and their
// corpora in testdata/fuzz are run by every test.
package differential
