// Package integration tests the gateway as its users have it: Caddy in its own
// process with TLS, the MCP clients and servers of the official SDKs (Go,
// TypeScript 1.x and 2.x), tokens of a real OpenID provider and, in another run,
// tokens that are checked against a PEM key.
//
// The tests need Node to start npm with; the packages, and the Node that runs
// them, come from npm as locked in node/package-lock.json and are installed by
// the tests when they are missing or older than the lock. Every server listens
// on loopback. CADDY_BIN names a Caddy to test instead of the one built from
// ../xcaddy.
package integration
