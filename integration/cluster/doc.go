// Package cluster tests nodes of the gateway that share a Redis, and one that has a file,
// while what they depend on fails. The nodes are Caddy processes, Redis is a real one, and
// the MCP server behind them records what it receives.
//
// Load runs while things fail. Each answer is counted by its status and reason, and each
// that let a request through is compared with what is known of its token: it was not
// revoked, not expired, and ours. So is each request that the server received.
package cluster
