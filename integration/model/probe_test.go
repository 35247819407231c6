//go:build unix

package model

import (
	"fmt"
	"slices"
	"time"
)

// probe is a request that changes nothing but the count of a token's uses.
type probe struct {
	// kind is call or list, of a server; or what is asked of the API: me, tokens or
	// admin.
	kind         string
	c            *cred
	server, tool string
	in           *sitting
}

func (p probe) String() string {
	text := fmt.Sprintf("%s %s/%s with the %s", p.kind, p.server, p.tool, p.c.name)
	if p.in != nil {
		text += " in the MCP session " + p.in.upstream
	}
	return text
}

func (p probe) want() want {
	switch p.kind {
	case "call":
		return p.c.call(p.server, p.tool, p.in)
	case "list":
		return p.c.list(p.server)
	case "admin":
		return p.c.administers()
	}
	return p.c.interactive()
}

// ask sends it to a node, and returns what came, and whether that is as it should be. What
// a server received always has to be what the answer says.
func (w *walk) ask(n *node, p probe) (got string, ok bool) {
	w.t.Helper()
	wanted := p.want()
	var r *reply
	session, nonce := "", ""
	if p.in != nil {
		session = p.in.id
	}
	w.sent++
	switch p.kind {
	case "call":
		nonce = fmt.Sprint("nonce-", w.sent)
		r = n.mcp(w.t, p.server, p.c.raw, session, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":{"nonce":%q}}}`, w.sent, p.tool, nonce))
	case "list":
		r = n.mcp(w.t, p.server, p.c.raw, session, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/list"}`, w.sent))
	case "me":
		r = n.api(w.t, "GET", "/auth/me", p.c.raw, nil)
	case "tokens":
		r = n.api(w.t, "GET", "/tokens", p.c.raw, nil)
	default:
		r = n.api(w.t, "GET", "/admin/users", p.c.raw, nil)
	}
	served := r.status == 200 && r.reason == ""
	w.answers[fmt.Sprint(r.status, " ", r.reason)]++
	if nonce != "" {
		var should []string
		if served {
			should = []string{p.server + "/" + p.tool + " "}
			if p.in != nil {
				should[0] += p.in.upstream
			}
		}
		if received := w.up.got(nonce); !slices.Equal(received, should) {
			w.failf("%s is answered by %s with %s, and the server received %q, not %q", p, n.name, r, received, should)
		}
	}
	p.c.uses(p.kind, served, r)
	ok = wanted.admits(r, served)
	if ok && p.kind == "list" && served {
		ok = slices.Equal(listed(r), wanted.tools)
	}
	return r.String(), ok
}

// uses counts a request that was let through to where it is counted.
func (c *cred) uses(kind string, served bool, r *reply) {
	if c.limit > 0 && (kind == "call" || kind == "list") && (served || r.reason == "session_unknown") {
		c.least++
		c.most++
	}
}

// admits reports whether an answer is as it should be.
func (w want) admits(r *reply, served bool) bool {
	switch {
	case served:
		return w.served() || w.perhaps
	case r.status == 200:
		return w.hidden && r.reason == "not_found"
	}
	return slices.Contains(w.statuses, r.status)
}

func listed(r *reply) []string {
	names := []string{}
	result, _ := r.body["result"].(object)
	tools, _ := result["tools"].([]any)
	for _, tool := range tools {
		name, _ := tool.(object)["name"].(string)
		names = append(names, name)
	}
	return names
}

// now expects an answer as it should be, at once.
func (w *walk) now(n *node, p probe) {
	w.t.Helper()
	w.probes++
	if got, ok := w.ask(n, p); !ok {
		w.failf("%s: %s answers %s, expected: %s", p, n.name, got, p.want())
	}
}

// soon expects it within the promise since the last operation.
func (w *walk) soon(n *node, p probe) {
	w.t.Helper()
	w.probes++
	for {
		sent := time.Now()
		got, ok := w.ask(n, p)
		if ok {
			w.late = max(w.late, sent.Sub(w.since))
			return
		}
		if sent.Sub(w.since) > promise {
			w.failf("%s: %s answers %s, %s after the last change, which was made on another node; expected: %s", p, n.name, got, sent.Sub(w.since), p.want())
		}
		w.again++
	}
}

// some are probes about somebody, and about anybody.
func (w *walk) some(about *user) (list []probe) {
	var theirs, good []*cred
	for _, c := range w.m.creds {
		if c.user == about {
			theirs = append(theirs, c)
		}
		if c.may("notes", "read") && len(c.good()) == 0 || c.list("crm").served() {
			good = append(good, c)
		}
	}
	for range 8 {
		c := w.cred(false)
		switch n := w.IntN(5); {
		case n < 2 && len(theirs) > 0:
			c = theirs[max(len(theirs)-1-w.IntN(6), 0)]
		case n < 4 && len(good) > 0:
			c = pick(w, good...)
		}
		p := probe{kind: "call", c: c, server: pick(w, "notes", "crm"), tool: pick(w, "read", "write")}
		switch n := w.IntN(20); {
		case n < 3 && len(w.m.sittings) > 0:
			p.in = w.sitting()
		case n < 7 && len(w.m.sittings) > 0:
			p.server, p.in = "crm", w.sitting()
			if w.IntN(2) == 0 {
				p.c = p.in.by
			}
		case n < 11:
			p.kind, p.tool = "list", ""
		case n < 15:
			p = probe{kind: pick(w, "me", "tokens", "admin"), c: c}
		}
		list = append(list, p)
	}
	return list
}

// all are probes about everything that has no limit and is good, or was until lately.
func (w *walk) all() (list []probe) {
	dead := 0
	for _, c := range slices.Backward(w.m.creds) {
		if c.limit > 0 {
			continue
		}
		if len(c.good()) > 0 {
			if dead++; dead > 10 {
				continue
			}
		}
		list = append(list, probe{kind: "list", c: c, server: "notes"}, probe{kind: "list", c: c, server: "crm"})
		if c.login != nil {
			list = append(list, probe{kind: "me", c: c})
		}
	}
	for i, s := range w.m.sittings {
		if s.over && i < len(w.m.sittings)-10 {
			continue
		}
		if s.by.limit == 0 {
			list = append(list, probe{kind: "call", c: s.by, server: "crm", tool: "read", in: s})
		}
		for _, c := range w.m.creds {
			if c.user == s.user && c != s.by && c.limit == 0 && c.call("crm", "read", nil).served() {
				list = append(list, probe{kind: "call", c: c, server: "crm", tool: "read", in: s})
				break
			}
		}
	}
	return list
}
