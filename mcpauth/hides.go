package mcpauth

import (
	"fmt"
	"strings"

	"github.com/caddymcp/caddy-mcp-gateway/mcpauth/scope"
)

// WrittenVisibility is what hides a server, or objects of one, as it was written.
type WrittenVisibility struct {
	// Object is what is hidden: a server, or objects written server/object.
	Object string `json:"object"`
	// At is where it was written, such as Caddyfile:12.
	At string `json:"at,omitempty"`
	// Text is what was written, in the Caddyfile's words.
	Text string `json:"text"`
}

// Hides returns what the configuration says about who sees an object, which is named
// as in its visibility; nil if it says nothing.
func (h *Handler) Hides(object string) *WrittenVisibility {
	v, ok := h.Visibility[object]
	if !ok {
		return nil
	}
	words := []string{"visibility", object, string(v.Level)}
	switch v.Level {
	case scope.Team:
		words = append(words, v.Team)
	case scope.Private:
		words = append(words, v.Owner)
	default: // for everybody
	}
	for n, word := range words {
		words[n] = inCaddyfile(word)
	}
	return &WrittenVisibility{Object: object, At: v.At, Text: strings.Join(words, " ")}
}

// inCaddyfile writes a word as it would stand in a Caddyfile.
func inCaddyfile(word string) string {
	if strings.ContainsAny(word, " \"`{}") {
		return fmt.Sprintf("%q", word)
	}
	return word
}
