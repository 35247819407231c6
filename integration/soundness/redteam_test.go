package soundness

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What the checklist does not have: requests that two programs could see the ends of
// in different places, oddities of HTTP/2, and answers that try to be more than one.
func TestSmuggling(t *testing.T) {
	legit := func() message { return post(t, alice, callTool("ok")) }
	hidden := post(t, alice, callTool("admin"))
	// Without a token, so that it can only have been let in by the one before.
	smuggled := string(hidden.without("Authorization").bytesH1())

	for name, data := range map[string]func() []byte{
		"Content-Length and Transfer-Encoding": func() []byte {
			m := legit().with("Transfer-Encoding: chunked", "Content-Length: 4")
			m.raw, m.body = true, []byte("0\r\n\r\n"+smuggled)
			return m.bytesH1()
		},
		"Content-Length and Transfer-Encoding the other way": func() []byte {
			body := "0\r\n\r\n" + smuggled
			m := legit().with(fmt.Sprintf("Content-Length: %d", len(body)), "Transfer-Encoding: chunked")
			m.raw, m.body = true, []byte(body)
			return m.bytesH1()
		},
		"two Content-Length headers": func() []byte {
			m := legit().with("Content-Length: 4", fmt.Sprintf("Content-Length: %d", len(smuggled)))
			m.raw, m.body = true, []byte("{}  "+smuggled)
			return m.bytesH1()
		},
		"a list of Content-Lengths": func() []byte {
			m := legit().with("Content-Length: 4, 40")
			m.raw, m.body = true, []byte("{}  "+smuggled)
			return m.bytesH1()
		},
		"Content-Length with a sign": func() []byte {
			m := legit().with("Content-Length: +4")
			m.raw, m.body = true, []byte("{}  "+smuggled)
			return m.bytesH1()
		},
		"an unknown Transfer-Encoding": func() []byte {
			m := legit().with("Transfer-Encoding: xchunked")
			m.raw, m.body = true, []byte("0\r\n\r\n"+smuggled)
			return m.bytesH1()
		},
		"a space before the colon": func() []byte {
			m := legit().with("Transfer-Encoding : chunked")
			m.raw, m.body = true, []byte("0\r\n\r\n"+smuggled)
			return m.bytesH1()
		},
		"a tab in Transfer-Encoding": func() []byte {
			m := legit().with("Transfer-Encoding:\x0bchunked")
			m.raw, m.body = true, []byte("0\r\n\r\n"+smuggled)
			return m.bytesH1()
		},
		"a chunk's length that overflows": func() []byte {
			m := legit().with("Transfer-Encoding: chunked")
			m.raw, m.body = true, []byte("fffffffffffffffff\r\n"+smuggled)
			return m.bytesH1()
		},
		"LF alone ends a chunk": func() []byte {
			m := legit().with("Transfer-Encoding: chunked")
			m.raw, m.body = true, []byte("2\n{}\n0\n\n"+smuggled)
			return m.bytesH1()
		},
		"a body after GET": func() []byte {
			m := legit()
			m.method, m.body = "GET", []byte(smuggled)
			return m.bytesH1()
		},
		"a body after a refusal": func() []byte {
			m := legit().without("Authorization")
			m.body = []byte(smuggled)
			return m.bytesH1()
		},
		"a body that was not waited for": func() []byte {
			m := legit().without("Authorization").with("Expect: 100-continue")
			m.body = []byte(smuggled)
			return m.bytesH1()
		},
		"a header that goes on in the next line": func() []byte {
			m := hidden.with("X-Fold: a\r\n  Content-Length: 0")
			return append(m.bytesH1(), smuggled...)
		},
		"a line break in a header": func() []byte {
			m := legit().with("X-Break: a\rAuthorization: Bearer x")
			return append(m.bytesH1(), smuggled...)
		},
		"NUL in a header": func() []byte {
			return append(legit().with("X-Nul: a\x00b").bytesH1(), smuggled...)
		},
		"two Host headers": func() []byte {
			return append(legit().with("Host: evil.example").bytesH1(), smuggled...)
		},
		"no Host header": func() []byte {
			m := legit()
			m.host = ""
			return append(m.bytesH1(), smuggled...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			up := watch(t)
			for _, r := range sendRaw(t, world.secure, data()) {
				if r.status == 200 && strings.Contains(string(r.body), "done") {
					// The first request may have been a whole one.
					if got := up.all(); len(got) != 1 || string(got[0].body) != callTool("ok") {
						t.Errorf("answered with %q", r.body)
					}
				}
			}
			for _, got := range up.all() {
				if got.method != http.MethodGet && string(got.body) != callTool("ok") || got.method == http.MethodGet && len(got.body) > 0 {
					t.Errorf("the server received %s %q", got.method, got.body)
				}
			}
		})
	}
	t.Run("what follows a request is judged by its own token", func(t *testing.T) {
		up := watch(t)
		data := append(legit().bytesH1(), legit().without("Authorization").bytesH1()...)
		data = append(data, hidden.bytesH1()...)
		all := sendRaw(t, world.secure, data)
		if len(all) != 3 {
			t.Fatalf("%d answers", len(all))
		}
		all[0].ok(t)
		invalid("token_missing").check(t, all[1])
		notFound.check(t, all[2])
		up.one(t)
	})
	t.Run("trailers do not become headers", func(t *testing.T) {
		for _, port := range []int{world.secure, world.small} { // HTTP/1.1 and HTTP/2 to the server
			up := watch(t)
			m := legit()
			if port == world.small {
				host := fmt.Sprintf("127.0.0.1:%d", port)
				m = m.to(t, port, host, "http://"+host+"/prefix", alice)
				m.path = "/prefix/mcp"
			}
			m = m.with("Transfer-Encoding: chunked", "Trailer: X-Mcp-Subject, Authorization, Mcp-Session-Id, X-Other")
			m.raw = true
			m.body = fmt.Appendf(nil, "%x\r\n%s\r\n0\r\nX-Mcp-Subject: root\r\nX-Other: root\r\nMcp-Session-Id: x\r\n\r\n", len(m.body), m.body)
			sendH1(t, m).ok(t)
			got := up.one(t)
			if len(got.trailer) > 0 || got.header.Get("Trailer") != "" || got.header.Get("X-Mcp-Subject") != "alice" {
				t.Errorf("the server received %v and the trailers %v", got.header, got.trailer)
			}
		}
	})
}

func TestHTTP2(t *testing.T) {
	ok := post(t, alice, callTool("ok"))
	fields := ok.fieldsH2()
	// changed replaces the values of fields, and adds those that were not there.
	changed := func(changes ...field) []field {
		all := append([]field(nil), fields...)
		for _, c := range changes {
			found := false
			for i := range all {
				if all[i].name == c.name {
					all[i].value, found = c.value, true
				}
			}
			if !found {
				all = append(all, c)
			}
		}
		return all
	}
	front := func(extra ...field) []field { return append(append([]field(nil), extra...), fields...) }
	for name, f := range map[string][]field{
		"another authority":             changed(field{":authority", "evil.example"}),
		"an authority with a user":      changed(field{":authority", "localhost@evil.example"}),
		"no authority, another host":    append(changed(field{":authority", ""}), field{"host", "evil.example"}),
		"path with a fragment":          changed(field{":path", "/mcp#x"}),
		"path with a space":             changed(field{":path", "/mcp /x"}),
		"path with a line break":        changed(field{":path", "/mcp HTTP/1.1\r\nX-Mcp-Subject: root\r\n\r\n"}),
		"an absolute path":              changed(field{":path", "https://localhost/mcp"}),
		"path without a slash":          changed(field{":path", "mcp"}),
		"path *":                        changed(field{":path", "*"}),
		"two paths":                     front(field{":path", "/servers/other/mcp"}),
		"two methods":                   front(field{":method", "GET"}),
		"a host beside the authority":   append(append([]field(nil), fields...), field{"host", "evil.example"}),
		"two authorities":               front(field{":authority", "evil.example"}),
		"a pseudo-header after headers": append(append([]field(nil), fields...), field{":path", "/mcp"}),
		"an unknown pseudo-header":      front(field{":protocol", "websocket"}),
		"CONNECT":                       changed(field{":method", "CONNECT"}),
		"a method with a line break":    changed(field{":method", "POST /admin HTTP/1.1\r\n"}),
		"a header in capitals":          append(append([]field(nil), fields...), field{"X-Mcp-Subject", "root"}),
		"a header with a line break":    append(append([]field(nil), fields...), field{"x-a", "b\r\nx-mcp-subject: root"}),
		"a name with a colon":           append(append([]field(nil), fields...), field{"x-mcp-subject: root\r\nx", "y"}),
		"Transfer-Encoding":             append(append([]field(nil), fields...), field{"transfer-encoding", "chunked"}),
		"Connection":                    append(append([]field(nil), fields...), field{"connection", "x-mcp-subject"}),
		"Upgrade":                       append(append([]field(nil), fields...), field{"upgrade", "h2c"}),
		"two Content-Lengths":           append(append([]field(nil), fields...), field{"content-length", fmt.Sprint(len(ok.body))}, field{"content-length", "4"}),
		"a session id with a NUL":       append(append([]field(nil), fields...), field{"mcp-session-id", "a\x00b"}),
		"a session id with a CR":        append(append([]field(nil), fields...), field{"mcp-session-id", "a\rb"}),
		"two tokens":                    append(append([]field(nil), fields...), field{"authorization", "Bearer " + root.token(t)}),
	} {
		t.Run(name, func(t *testing.T) {
			up := watch(t)
			r := sendFields(t, world.secure, f, ok.body)
			up.nothing(t)
			if r.err == nil && r.status < 400 {
				t.Errorf("status %d, %q", r.status, r.body)
			}
		})
	}
	t.Run("E4 a session id with a line break", func(t *testing.T) {
		up := watch(t)
		r := sendFields(t, world.secure, append(append([]field(nil), fields...), field{"mcp-session-id", "a\r\nx: y"}), ok.body)
		up.nothing(t)
		if r.err == nil && r.status != 400 {
			t.Errorf("status %d", r.status)
		}
		if r := sendRaw(t, world.secure, ok.with("Mcp-Session-Id: a\rb").bytesH1()); len(r) != 1 || r[0].status != 400 {
			t.Errorf("answers %+v", r)
		}
		up.nothing(t)
	})
}

// The server, or whoever has taken it over, answers with more than an answer.
func TestHostileAnswers(t *testing.T) {
	for version, w := range both(versions) {
		for row, status := range map[string]int{"401": 401, "403": 403, "407": 407, "301": 301, "307": 307, "308": 308, "304": 304} {
			t.Run("H5 the server answers "+row+"/"+version+"/"+w.name, func(t *testing.T) {
				up := watch(t)
				up.replies(func(w http.ResponseWriter, _ *http.Request, _ received) {
					w.Header().Set("Location", "http://"+world.jwks.address+"/elsewhere")
					w.Header().Set("Www-Authenticate", `Bearer resource_metadata="https://evil.example/"`)
					w.Header().Set("Set-Cookie", "hidden=1")
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(status)
				})
				reason := "upstream_authorization"
				if status < 400 {
					reason = "upstream_redirect"
				}
				r := w.send(t, callOf(t, version, alice, "ok")).unleaked(t)
				want{502, -32603, reason}.check(t, r)
				for _, name := range []string{"Location", "Www-Authenticate", "Set-Cookie"} {
					if r.header.Get(name) != "" {
						t.Errorf("the client received %s", name)
					}
				}
				up.one(t)
			})
		}
		t.Run("H5 cookies and challenges of an answer/"+version+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.replyWith("application/json", result("1", "{}"), "Set-Cookie: hidden=1", "WWW-Authenticate: Bearer", "Mcp-Session-Id: upstream-own")
			r := w.send(t, callOf(t, version, alice, "ok")).ok(t)
			for _, name := range []string{"Www-Authenticate", "Set-Cookie", "Mcp-Session-Id"} {
				if r.header.Get(name) != "" {
					t.Errorf("the client received %s", name)
				}
			}
		})
		t.Run("early hints/"+version+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.replies(func(w http.ResponseWriter, r *http.Request, got received) {
				for _, name := range []string{"Set-Cookie", "Mcp-Session-Id", "Www-Authenticate", "Link"} {
					w.Header().Set(name, "upstream-hint")
				}
				w.WriteHeader(http.StatusEarlyHints)
				for name := range w.Header() {
					w.Header().Del(name)
				}
				speak(w, r, got)
			})
			r := w.send(t, callOf(t, version, alice, "ok")).ok(t)
			for _, header := range append(r.hints, r.header) {
				if strings.Contains(fmt.Sprint(header), "upstream-hint") {
					t.Errorf("the client received %v", header)
				}
			}
		})
		t.Run("trailers of an answer/"+version+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.replies(func(w http.ResponseWriter, _ *http.Request, _ received) {
				w.Header().Set("Content-Type", "text/event-stream")
				w.Header().Set("Trailer", "Mcp-Session-Id")
				_, _ = io.WriteString(w, event(result("1", "{}")))
				w.Header().Set("Mcp-Session-Id", "upstream-trailer")
				w.Header().Set(http.TrailerPrefix+"Set-Cookie", "upstream-trailer=1")
			})
			r := w.send(t, callOf(t, version, alice, "ok")).ok(t)
			if strings.Contains(fmt.Sprint(r.header), "upstream-trailer") {
				t.Errorf("the client received %v", r.header)
			}
		})
		t.Run("the server's own CORS headers/"+version+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.replyWith("application/json", result("1", "{}"), "Access-Control-Allow-Origin: *", "Access-Control-Allow-Credentials: true")
			origin := fmt.Sprintf("https://localhost:%d", world.secure)
			r := w.send(t, callOf(t, version, alice, "ok", "Origin: "+origin)).ok(t)
			if got := r.header.Values("Access-Control-Allow-Origin"); len(got) != 1 || got[0] != origin {
				t.Errorf("the client received Access-Control-Allow-Origin %q", got)
			}
		})
		t.Run("H12 the server hangs up before it answers/"+version+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.replies(func(w http.ResponseWriter, _ *http.Request, _ received) { panic(http.ErrAbortHandler) })
			r := w.send(t, callOf(t, version, alice, "ok"))
			want{502, 50200, "upstream_unreachable"}.check(t, r)
			if f := r.refusal(t); string(f.ID) != "1" {
				t.Errorf("the refusal has the id %s", f.ID)
			}
			if strings.Contains(string(r.body), world.up.address) {
				t.Errorf("the client is told the server's address: %s", r.body)
			}
			up.one(t) // nothing is sent twice: a tool has effects
		})
		t.Run("an answer that is too large/"+version+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			up.replyWith("application/json", result("1", `{"contents":[{"uri":"file:///pub/a","text":"`+strings.Repeat("x", 300<<10)+`"}]}`))
			r := w.send(t, ask(t, version, alice, "resources/read", `"uri":"file:///pub/a"`))
			want{502, 50200, "answer_too_large"}.check(t, r)
		})
	}
	t.Run("the server switches protocols", func(t *testing.T) {
		up := watch(t)
		up.replies(func(w http.ResponseWriter, _ *http.Request, _ received) {
			conn, buffered, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nadmin")
			_ = buffered.Flush()
		})
		m := post(t, alice, callTool("ok"), "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")
		conn := dial(t, m.port, "http/1.1")
		_, _ = conn.Write(m.bytesH1())
		r := readH1(bufio.NewReader(conn), "POST").unleaked(t)
		if r.status == http.StatusSwitchingProtocols || r.status == http.StatusOK {
			t.Errorf("status %d, %q", r.status, r.body)
		}
	})
	t.Run("an answer of two types", func(t *testing.T) {
		up := watch(t)
		up.replies(func(w http.ResponseWriter, _ *http.Request, _ received) {
			conn, buffered, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			body := result("1", results["tools/list"])
			fmt.Fprintf(buffered, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			_ = buffered.Flush()
		})
		r := sendH1(t, post(t, viewer, call("1", "tools/list", ""))).unleaked(t)
		if r.status != 502 {
			t.Errorf("status %d, %q", r.status, r.body)
		}
	})
	t.Run("no body goes with GET and DELETE", func(t *testing.T) {
		for _, method := range []string{"GET", "DELETE"} {
			up := watch(t)
			id := session(t, alice, v25)
			up.forget()
			m := post(t, alice, callTool("admin"), append(inSession(id, v25), "X-HTTP-Method-Override: POST")...)
			m.method = method
			sendH1(t, m)
			if got := up.one(t); len(got.body) > 0 || got.header.Get("X-Http-Method-Override") != "" {
				t.Errorf("the server received %q with %v", got.body, got.header)
			}
		}
	})
	t.Run("notifications that only servers send", func(t *testing.T) {
		up := watch(t)
		id := session(t, root, v25)
		up.forget()
		for _, method := range []string{
			"notifications/message", "notifications/tools/list_changed", "notifications/resources/updated", "notifications/elicitation/complete",
			"notifications/tasks/status", "notifications/vendor",
		} {
			body := fmt.Sprintf(`{"jsonrpc":"2.0","method":%q,"params":{"uri":"file:///pub/a"}}`, method)
			if r := sendH1(t, post(t, root, body, inSession(id, v25)...)); r.status != 202 || len(r.body) > 0 {
				t.Errorf("%s: status %d, %q", method, r.status, r.body)
			}
		}
		for _, method := range []string{"sampling/createMessage", "elicitation/create", "roots/list"} {
			unknownMethod.check(t, sendH1(t, post(t, root, call("1", method, "{}"), inSession(id, v25)...)))
		}
		up.nothing(t)
	})
	t.Run("the bytes that were judged are the bytes that arrive", func(t *testing.T) {
		up := watch(t)
		body := " \t\n{\"params\" : {\"arguments\":{\"z\":1.0, \"a\":\"\\u00e9\\/\"} , \"name\":\"o\\u006b\"},\"id\":1e0,\r\n\"method\":\"tools\\/call\",\"jsonrpc\":\"2.0\",\"x\":[]} \n"
		for _, w := range wires {
			up.forget()
			w.send(t, post(t, alice, body)).ok(t)
			if got := up.one(t); !bytes.Equal(got.body, []byte(body)) || got.header.Get("Content-Length") != fmt.Sprint(len(body)) {
				t.Errorf("the server received %q", got.body)
			}
		}
	})
}
