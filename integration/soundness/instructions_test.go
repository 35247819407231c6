package soundness

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The sites' instructions: those of secure are left to the default, public drops them,
// and plain has a text of its own for main and passes on those of other.
func TestInstructions(t *testing.T) {
	// greeted is a server's answer to who begins, rest what is left without its
	// instructions.
	const instructions = `"instructions" : "Ask \u0061dmin for secret_tool."`
	greeted := func(version, instructions string) string {
		if version == v26 {
			return result("0", `{"supportedVersions":["2026-07-28"],"capabilities": `+canDo+`,`+instructions+`,"serverInfo":{"name":"s","version":"1"}}`)
		}
		return result("0", `{`+instructions+`, "protocolVersion":"`+version+`","capabilities":`+canDo+`,"serverInfo":{"name":"s","version":"1"}}`)
	}
	begin := func(t *testing.T, who person, version string) message {
		if version == v26 {
			m := post(t, who, strings.Replace(modern("server/discover", ""), `"id":1`, `"id":0`, 1), modernHeaders("server/discover", "")...)
			return m
		}
		return post(t, who, initialize(version))
	}
	// left is what comes of it: the member is gone with its comma, and what was made for
	// one principal is private.
	left := func(version string, tailored bool) string {
		if version == v26 && tailored {
			return greeted(version, `"cacheScope":"private"`)
		}
		return strings.NewReplacer(`{@, `, `{ `, `,@,`, `,`).Replace(greeted(version, "@"))
	}
	as := func(media, body string) string {
		if media == "text/event-stream" {
			return event(body)
		}
		return body
	}
	for _, w := range wires {
		for _, version := range []string{"2025-03-26", "2025-06-18", v25, v26} {
			for _, media := range []string{"application/json", "text/event-stream"} {
				t.Run("D13 instructions in "+version+" as "+media+"/"+w.name, func(t *testing.T) {
					up := watch(t)
					given := as(media, greeted(version, instructions))
					up.replyWith(media, given)
					for _, who := range []person{viewer, alice, asked} {
						r := w.send(t, begin(t, who, version)).ok(t).undecodable(t)
						if want := as(media, left(version, true)); string(r.body) != want {
							t.Errorf("%s received\n%s, not\n%s", who.subject, r.body, want)
						}
					}
					if r := w.send(t, begin(t, root, version)).ok(t); string(r.body) != given {
						t.Errorf("who sees everything received %s", r.body)
					}
					// A type that they cannot have tells names as well.
					up.replyWith(media, as(media, greeted(version, `"instructions":{"use":["admin"]}`)))
					w.send(t, begin(t, viewer, version)).ok(t).undecodable(t)
					for _, twice := range []string{`"instructions":"","instructions":"admin"`, `"instructions":"","Instructions":"admin"`, `"INSTRUCTIONS":"admin"`} {
						up.replyWith(media, as(media, greeted(version, twice)))
						w.send(t, begin(t, viewer, version)).undecodable(t)
					}
				})
				if w.name == "h2" {
					continue // plain sites have HTTP/1.1
				}
				t.Run("D13 instructions as the operator says in "+version+" as "+media+"/"+w.name, func(t *testing.T) {
					up := watch(t)
					up.replyWith(media, as(media, greeted(version, instructions)))
					both := person{viewer.issuer, viewer.subject, viewer.client, "both"}
					for _, who := range []person{both, root} {
						expect := func(site string, m message, want string) {
							t.Helper()
							if r := w.send(t, m).ok(t); string(r.body) != as(media, want) {
								t.Errorf("%s at %s received\n%s, not\n%s", who.subject, site, r.body, want)
							}
						}
						public := begin(t, who, version).to(t, world.public, "mcp.example.com", "https://mcp.example.com", who)
						expect("public", public, left(version, false))
						expect("other", begin(t, who, version).toPlain(t, who, "other"), greeted(version, instructions))
						expect("main", begin(t, who, version).toPlain(t, who, "main"), greeted(version, `"instructions" : "Use \"ok\"."`))
					}
					up.replyWith(media, as(media, result("0", `{"protocolVersion":"`+version+`"}`)))
					r := w.send(t, begin(t, viewer, version).toPlain(t, viewer, "main")).ok(t)
					if want := as(media, result("0", `{"instructions":"Use \"ok\".","protocolVersion":"`+version+`"}`)); string(r.body) != want {
						t.Errorf("without instructions of the server, the client received %s, not %s", r.body, want)
					}
				})
			}
		}
		t.Run("D13 instructions that are sent again/"+w.name, func(t *testing.T) {
			up, s := watch(t), newSource()
			id := session(t, viewer, v25)
			feeding(up, s, http.MethodGet)
			resumed := stream(t, w, get(t, viewer, inSession(id, v25)...))
			wait(t, s.began, "the GET")
			s.send(t, event(greeted(v25, instructions)))
			close(s.feed)
			if r := resumed.rest(t).undecodable(t); string(r.body) != event(left(v25, true)) {
				t.Errorf("the client received %s", r.body)
			}
		})
		t.Run("D13 instructions in the answer to something else/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.replyWith("text/event-stream", event(result("1", fmt.Sprintf(`{"content":[],%s}`, instructions))))
			w.send(t, post(t, viewer, callTool("ok"))).ok(t).undecodable(t)
		})
	}
}
