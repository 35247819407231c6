package expect

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/command/gateways"
	"github.com/caddymcp/caddy-mcp-gateway/mcpauth"
)

// Difference is an answer that is not the expected one.
type Difference struct {
	*Expectation
	// Got is the answer.
	Got *mcpauth.Explanation
	// Points are what of it differs.
	Points []Point
}

// Point is one thing in which an answer differs.
type Point struct {
	What     string `json:"what"`
	Expected string `json:"expected"`
	Got      string `json:"got"`
}

// Check asks the question, and returns nil if the answer is the expected one. An error
// means that it cannot be asked.
func (e *Expectation) Check(t *Table, set *gateways.Set) (*Difference, error) {
	h, server, err := set.At(e.Server(), t.PublicURL)
	if err != nil {
		return nil, err
	}
	at := e.At
	if at.Now.IsZero() {
		at.Now = time.Now()
	}
	inquiry, err := h.InquireClaims(t.Principals[e.Principal], server, at)
	if err != nil {
		return nil, err
	}
	got, err := inquiry.Explain(e.Question)
	if err != nil {
		return nil, err
	}
	if points := e.differ(got); len(points) > 0 {
		return &Difference{e, got, points}, nil
	}
	return nil, nil
}

func (e *Expectation) differ(got *mcpauth.Explanation) []Point {
	var points []Point
	differ := func(what, expected, got string) { points = append(points, Point{what, expected, got}) }
	if e.Allowed != got.Allowed {
		differ("allowed", fmt.Sprint(e.Allowed), fmt.Sprint(got.Allowed))
	}
	if e.Layer != nil && *e.Layer != string(got.Layer) {
		differ("layer", *e.Layer, string(got.Layer))
	}
	if e.Reason != nil && *e.Reason != got.Reason {
		differ("reason", *e.Reason, got.Reason)
	}
	rule := got.Rule
	if rule == nil {
		rule = new(mcpauth.WrittenRule)
	}
	if e.Role != nil && *e.Role != rule.Role {
		differ("role", *e.Role, rule.Role)
	}
	if e.Rule != nil && *e.Rule != rule.Text {
		differ("rule", *e.Rule, rule.Text)
	}
	if e.Scopes != nil {
		expected := slices.Sorted(slices.Values(*e.Scopes))
		if !slices.Equal(expected, got.Scopes) {
			differ("scopes", strings.Join(expected, " "), strings.Join(got.Scopes, " "))
		}
	}
	return points
}
