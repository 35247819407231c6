package mcp

// Version is a revision of the protocol, by its date. Revisions compare as
// strings.
type Version string

// The revisions. 2024-11-05 has another transport, but there are servers that
// negotiate it over Streamable HTTP.
const (
	V20241105 Version = "2024-11-05"
	V20250326 Version = "2025-03-26"
	V20250618 Version = "2025-06-18"
	V20251125 Version = "2025-11-25"
	V20260728 Version = "2026-07-28"
)

// Versions are the revisions the gateway carries, newest first.
var Versions = []Version{V20260728, V20251125, V20250618, V20250326, V20241105}

// Default is the revision of a request that names none (2025-06-18, transports,
// protocol version header).
const Default = V20250326

// Known returns the revision of that name; false when the gateway does not carry
// it.
func Known(name string) (Version, bool) {
	for _, v := range Versions {
		if string(v) == name {
			return v, true
		}
	}
	return "", false
}

// Modern reports whether a revision is stateless: every request describes itself,
// and there is no handshake, session or stream to come back to.
func (v Version) Modern() bool { return v >= V20260728 }

// Batches reports whether several messages may come in one body; only 2025-03-26
// has that on this transport.
func (v Version) Batches() bool { return v == V20250326 }
