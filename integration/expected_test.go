package integration

import (
	"fmt"
	"slices"
)

// expectation is what a step should come to: a value, or an error with one of
// some codes.
type expectation struct {
	value string
	codes []any // JSON-RPC codes; nil in the list: whatever the server says
}

func (e expectation) matches(got outcome) bool {
	if e.codes == nil {
		return got.Err == nil && got.Value == e.value
	}
	return got.Err != nil && (slices.Contains(e.codes, nil) || slices.Contains(e.codes, got.Err.Code))
}

func (e expectation) String() string {
	if e.codes == nil {
		return e.value
	}
	return fmt.Sprintf("an error with one of the codes %v", e.codes)
}

func value(v any) expectation { return expectation{value: canonical(v)} }

func refused(code float64) expectation { return expectation{codes: []any{code}} }

// Codes of refused objects.
const (
	invalidParams    = -32602.0
	resourceNotFound = -32002.0 // before 2026-07-28
)

// expected is the outcome of every step that the cell has.
func (c cell) expected(tag string, restricted bool) map[string]expectation {
	modern := c.version == modernVersion
	want := map[string]expectation{
		"version":         value(c.version),
		"tools":           value([]string{"add", "admin", "ask", "echo", "notify", "release", "sample", "slow"}),
		"resources":       value([]string{"test://a", "test://hidden"}),
		"templates":       value([]string{"test://b/{id}"}),
		"prompts":         value([]string{"greet", "secret"}),
		"echo":            value(fmt.Sprintf("hällo %q", tag)),
		"add":             value("5"),
		"read":            value("content of test://a"),
		"read template":   value("content of test://b/7"),
		"read hidden":     value("content of test://hidden"),
		"prompt":          value("Hello, ada"),
		"prompt secret":   value("Secret of ada"),
		"complete":        value([]string{"ada", "alan"}),
		"complete secret": value([]string{"ada", "alan"}),
		"progress":        value(map[string]any{"text": "slow 3", "progress": []int{1, 2, 3}}),
		"cancel":          value("cancelled"),
		"admin":           value("done"),
		"unknown":         {codes: []any{nil}},
		"close":           value("closed"),
	}
	if c.asks {
		want["ask"] = value("accept blue")
		want["sample"] = value("parrot: a haiku")
	}
	if c.follows {
		want["subscribe"] = value("subscribed")
		want["subscribe hidden"] = value("subscribed")
		want["notify"] = value([]string{"updated test://a", "tools changed", "notified " + tag})
		if !modern {
			want["log level"] = value("set")
		}
	}
	if c.resumes {
		want["resume"] = want["progress"]
	}
	if !restricted {
		return want
	}
	unknownResource := resourceNotFound
	if modern || c.client == "ts2" {
		// The SDK 2.x client shows both codes as this one.
		unknownResource = invalidParams
	}
	want["tools"] = value([]string{"add", "ask", "echo", "notify", "release", "sample", "slow"})
	want["resources"] = value([]string{"test://a"})
	want["prompts"] = value([]string{"greet"})
	want["read hidden"] = refused(unknownResource)
	want["prompt secret"] = refused(invalidParams)
	want["complete secret"] = refused(invalidParams)
	want["admin"] = refused(invalidParams)
	want["unknown"] = refused(invalidParams)
	switch {
	case !c.follows:
	case !modern:
		want["subscribe hidden"] = refused(unknownResource)
	case c.client == "ts2":
		want["subscribe hidden"] = value("not honored")
		// The Go client does not tell what became of subscriptions/listen; that the
		// server was not asked is checked there.
	}
	return want
}
