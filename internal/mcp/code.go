package mcp

// The error codes of MCP beside those of JSON-RPC. The range -32020 to -32099 is
// the specification's own (2026-07-28).
const (
	// CodeHeaderMismatch: a header is missing, malformed or unlike the body.
	CodeHeaderMismatch = -32020
	// CodeMissingClientCapability: the request needs a capability that the client
	// did not declare.
	CodeMissingClientCapability = -32021
	// CodeUnsupportedVersion: the protocol version is not carried.
	CodeUnsupportedVersion = -32022
	// CodeResourceNotFound: an unknown resource, until 2025-11-25; since then it
	// is invalid params.
	CodeResourceNotFound = -32002
)

// The gateway's own codes. They lie outside the range that JSON-RPC reserves
// (-32768 to -32000), as 2026-07-28 asks of implementations.
const (
	// CodeUnauthorized goes with HTTP 401.
	CodeUnauthorized = 40100
	// CodeForbidden goes with HTTP 403.
	CodeForbidden = 40300
	// CodeSession goes with HTTP 404: the session is unknown to this principal.
	CodeSession = 40400
	// CodeTransport goes with the other HTTP errors of the request.
	CodeTransport = 40000
	// CodeUpstream goes with HTTP 502, 503 and 504.
	CodeUpstream = 50200
)
