// Package soundness attacks the gateway. A real Caddy runs in the test's process
// with an adapted Caddyfile; in front of it stand clients that write every byte
// themselves, behind it a server that records what it receives and fails the test
// when something arrives that nobody may send. Each subtest is named after the row
// of the soundness checklist (mcp-protocol.md section 6) that it holds the gateway
// to.
package soundness
