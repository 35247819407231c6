package soundness

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode/utf16"
)

func TestFraming(t *testing.T) {
	as := func(body string, header ...string) message { return post(t, alice, body, header...) }
	typed := func(lines ...string) message {
		return as(callTool("ok")).without("Content-Type").with(lines...)
	}
	tool := func(params string) message { return as(call("1", "tools/call", params)) }
	named := func(name string) message { return tool(`{"name":` + name + `}`) }
	method := func(name string) message { return as(call("1", name, `{"name":"admin"}`)) }
	newer := func(name string) message {
		return as(modern(name, `"name":"admin"`), modernHeaders(name, "admin")...)
	}
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	_, _ = zip.Write([]byte(callTool("admin")))
	_ = zip.Close()
	var wide []byte
	for _, unit := range utf16.Encode([]rune(callTool("admin"))) {
		wide = binary.LittleEndian.AppendUint16(wide, unit)
	}
	encoded := func(coding string) message {
		return as(zipped.String(), "Content-Encoding: "+coding)
	}
	ping := call("1", "ping", "")
	batch := func(messages ...string) string { return "[" + strings.Join(messages, ",") + "]" }
	answer := `{"jsonrpc":"2.0","id":1,"result":{}}`

	attacks := []attack{
		{"A1 plain call of a forbidden tool", as(callTool("admin")), notFound},
		{"A2 name twice, forbidden last", tool(`{"name":"ok","name":"admin"}`), duplicate},
		{"A2 name twice, forbidden first", tool(`{"name":"admin","name":"ok"}`), duplicate},
		{"A2 name twice, once escaped", tool(`{"name":"ok","n\u0061me":"admin"}`), duplicate},
		{"A3 method twice", as(`{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{"name":"admin"}}`), duplicate},
		{"A3 id twice", as(`{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}`), duplicate},
		{"A4 params twice", as(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ok"},"params":{"name":"admin"}}`), duplicate},
		{"A4 arguments twice", tool(`{"name":"ok","arguments":{},"arguments":{"sql":"drop"}}`), duplicate},
		{"A4 a member of the arguments twice", tool(`{"name":"ok","arguments":{"x":[{"sql":1,"sql":2}]}}`), duplicate},
		{"A5 name and Name", tool(`{"name":"ok","Name":"admin"}`), caseVariant},
		{"A5 only Name", tool(`{"Name":"admin"}`), caseVariant},
		{"A5 METHOD", as(`{"jsonrpc":"2.0","id":1,"METHOD":"tools/call","params":{"name":"admin"}}`), caseVariant},
		{"A5 method and Method", as(`{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"admin"}}`), caseVariant},
		{"A5 Params", as(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ok"},"Params":{"name":"admin"}}`), caseVariant},
		{"A5 a letter that folds to ASCII", as("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"param\u017f\":{\"name\":\"admin\"}}"), caseVariant},
		{"A5 the kelvin sign in taskId", tool("{\"name\":\"ok\",\"tas\u212aId\":\"x\"}"), caseVariant},
		{"A6 an escaped member", tool(`{"n\u0061me":"admin"}`), notFound},
		{"A6 an escaped method", as(`{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"admin"}}`), notFound},
		{"A6 an escaped name", named(`"\u0061dmin"`), notFound},
		{"A6 an escaped member of the message", as(`{"jsonrpc":"2.0","id":1,"m\u0065thod":"tools/call","params":{"name":"admin"}}`), notFound},
		{"A7 byte order mark", as("\xef\xbb\xbf" + callTool("admin")), malformed},
		{"A7 byte order mark before what is allowed", as("\xef\xbb\xbf" + callTool("ok")), malformed},
		{"A8 gzip", encoded("gzip"), compressed},
		{"A8 GZIP in capitals", encoded("GZIP"), compressed},
		{"A8 x-gzip", encoded("x-gzip"), compressed},
		{"A8 br", encoded("br"), compressed},
		{"A8 deflate", encoded("deflate"), compressed},
		{"A8 zstd", encoded("zstd"), compressed},
		{"A8 identity and gzip", encoded("identity, gzip"), compressed},
		{"A8 two Content-Encoding headers", as(zipped.String(), "Content-Encoding: identity", "Content-Encoding: gzip"), headerSeveral},
		{"A8 gzip that is not declared", as(zipped.String()), malformed},
		{"A9 UTF-16", message{
			port: world.secure, method: "POST", path: "/mcp", host: as("").host, body: wide,
			header: typed("Content-Type: application/json; charset=utf-16le").header,
		}, mediaType},
		{"A9 UTF-16 that is not declared", as(string(wide)), malformed},
		{"A9 charset utf-7", typed("Content-Type: application/json; charset=utf-7"), mediaType},
		{"A9 two charsets", typed("Content-Type: application/json; charset=utf-8; charset=utf-16le"), mediaType},
		{"A10 text/plain", typed("Content-Type: text/plain"), mediaType},
		{"A10 a list of types", typed("Content-Type: application/json, text/plain"), mediaType},
		{"A10 two Content-Type headers", typed("Content-Type: application/json", "Content-Type: text/plain"), headerSeveral},
		{"A10 multipart", typed("Content-Type: multipart/form-data; boundary=x"), mediaType},
		{"A10 a form", typed("Content-Type: application/x-www-form-urlencoded"), mediaType},
		{"A10 no Content-Type", typed(), mediaType},
		{"A10 an empty Content-Type", typed("Content-Type: "), mediaType},
		{"A10 a suffix", typed("Content-Type: application/vnd.mcp+json"), mediaType},
		{"A10 another parameter", typed("Content-Type: application/json; profile=x"), mediaType},
		{"A11 two values", as(callTool("ok") + callTool("admin")), trailing},
		{"A11 two lines", as(callTool("ok") + "\n" + callTool("admin")), trailing},
		{"A11 trailing garbage", as(callTool("ok") + "x"), trailing},
		{"A11 a trailing NUL", as(callTool("ok") + "\x00"), trailing},
		{"A11 a trailing byte order mark", as(callTool("ok") + "\xef\xbb\xbf"), trailing},
		{"A12 a batch with a forbidden call", as(batch(ping, callTool("admin"))), want{403, -32602, "not_found"}},
		{"A12 a batch with a forbidden call first", as(batch(callTool("admin"), call("2", "ping", ""))), want{403, -32602, "not_found"}},
		{"A12 a batch with a forbidden notification", as(batch(ping, `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"admin"}}`)), idMissing},
		{"A13 a batch in 2025-06-18", as(batch(ping), "MCP-Protocol-Version: 2025-06-18"), noBatch},
		{"A13 a batch in 2025-11-25", as(batch(ping), "MCP-Protocol-Version: 2025-11-25"), noBatch},
		{"A13 a batch in 2026-07-28", as(batch(modern("tools/list", "")), modernHeaders("tools/list", "")...), noBatch},
		{"A13 a modern message in a legacy batch", as(batch(ping, modern("tools/list", ""))), noBatch},
		{"A14 an empty batch", as("[]"), want{400, -32600, "batch_empty"}},
		{"A14 a cancellation in a batch without a session", as(batch(ping, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}`)), want{400, -32600, "batch"}},
		{"A14 a nested batch", as(batch(batch(callTool("admin")))), wrongShape},
		{"A14 requests and responses", as(batch(answer, callTool("ok"))), want{400, -32600, "batch_mixed"}},
		{"A14 initialize in a batch", as(batch(initialize("2025-03-26"))), want{400, -32600, "batch_initialize"}},
		{"A14 a scalar in a batch", as(batch(ping, "1")), wrongShape},
		{"A14 too many", as(batch(slicesRepeat(ping, 101)...)), want{400, -32600, "batch_too_long"}},
		{"A15 a call without an id", as(`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"admin"}}`), idMissing},
		{"A15 an id that is null", as(call("null", "tools/call", `{"name":"admin"}`)), want{400, -32600, "id_null"}},
		{"A15 an id that is an object", as(call("{}", "tools/call", `{"name":"admin"}`)), want{400, -32600, "id_type"}},
		{"A15 an id that is a boolean", as(call("true", "tools/call", `{"name":"ok"}`)), want{400, -32600, "id_type"}},
		{"A16 method and result", as(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"admin"},"result":{}}`), wrongShape},
		{"A16 method and error", as(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"admin"},"error":{"code":1,"message":""}}`), wrongShape},
		{"A16 result and error", as(`{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}`), wrongShape},
		{"A16 no version of JSON-RPC", as(`{"id":1,"method":"tools/call","params":{"name":"ok"}}`), want{400, -32600, "message_version"}},
		{"A16 JSON-RPC 1.0", as(`{"jsonrpc":"1.0","id":1,"method":"tools/call","params":{"name":"ok"}}`), want{400, -32600, "message_version"}},
		{"A17 params are an array", tool(`["admin"]`), wrongType},
		{"A17 params are text", tool(`"admin"`), wrongType},
		{"A17 name is a number", named(`7`), wrongType},
		{"A17 name is an object", named(`{"admin":1}`), wrongType},
		{"A17 name is an array", named(`["admin"]`), wrongType},
		{"A17 name is null", named(`null`), wrongType},
		{"A17 no name", tool(`{"arguments":{}}`), want{400, -32602, "name_missing"}},
		{"A17 no params", as(call("1", "tools/call", "")), want{400, -32602, "name_missing"}},
		{"A17 no name in 2026-07-28", as(modern("tools/call", `"arguments":{}`), modernHeaders("tools/call", "")...), headerMissing},
		{"A17 no name but in the header", as(modern("tools/call", `"arguments":{}`), modernHeaders("tools/call", "ok")...), headerMismatch},
		{"A17 arguments are an array", tool(`{"name":"ok","arguments":["admin"]}`), wrongType},
		{"A18 invalid UTF-8 in the name", named("\"adm\xffin\""), malformed},
		{"A18 overlong UTF-8", named("\"adm\xc1\xa9n\""), malformed},
		{"A18 invalid UTF-8 in the arguments", tool("{\"name\":\"ok\",\"arguments\":{\"x\":\"\xff\"}}"), malformed},
		{"A18 a lone surrogate in the name", named(`"ok\ud800"`), malformed},
		{"A18 a lone surrogate in the method", as(`{"jsonrpc":"2.0","id":1,"method":"ping\udc00"}`), malformed},
		{"A18 U+0000 in the name", named(`"ok\u0000admin"`), control},
		{"A18 U+0000 in the uri", as(call("1", "resources/read", `{"uri":"file:///pub/a\u0000../secret"}`)), control},
		{"A18 U+0000 in the method", as(`{"jsonrpc":"2.0","id":1,"method":"ping\u0000"}`), control},
		{"A18 a raw line break in the name", named("\"ok\nadmin\""), malformed},
		{"A18 an escaped line break in the name", named(`"ok\nadmin"`), control},
		{"A19 Admin", named(`"Admin"`), notFound},
		{"A19 a space after the name", named(`"ok "`), notFound},
		{"A19 a space before the name", named(`" ok"`), notFound},
		{"A19 fullwidth", named(`"ａdmin"`), notFound},
		{"A19 a zero-width space", named(`"adm\u0069n\u200b"`), notFound},
		{"A19 another case of what is allowed", named(`"OK"`), notFound},
		{"A19 the empty name", named(`""`), notFound},
		{"A20 tools/Call", method("tools/Call"), unknownMethod},
		{"A20 TOOLS/CALL", method("TOOLS/CALL"), unknownMethod},
		{"A20 tools/call/", method("tools/call/"), unknownMethod},
		{"A20 a space before the method", method(" tools/call"), unknownMethod},
		{"A20 tools//call", method("tools//call"), unknownMethod},
		{"A20 tools.call", method("tools.call"), unknownMethod},
		{"A20 modern tools/Call", newer("tools/Call"), unknownModern},
		{"A20 the empty method", method(""), wrongShape},
		{"A21 tools/invoke", method("tools/invoke"), unknownMethod},
		{"A21 vendor/exec", method("vendor/exec"), unknownMethod},
		{"A21 rpc.discover", method("rpc.discover"), unknownMethod},
		{"A21 modern vendor/exec", newer("vendor/exec"), unknownModern},
		{"A21 a notification of another kind", as(`{"jsonrpc":"2.0","method":"vendor/exec","params":{"name":"admin"}}`), unknownNotification},
		{"A22 nested 10,000 deep", tool(`{"name":"ok","arguments":{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}}`), malformed},
		{"A22 nested 10,000 deep and not closed", as(strings.Repeat(`[`, 10_000)), want{400, -32700, "json_truncated"}},
		{"A22 nested 300 deep", tool(`{"name":"ok","arguments":{"a":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}}`), want{400, -32700, "json_depth"}},
		{"A22 10,000 members", tool(`{"name":"ok"` + members(5_000) + `}`), want{400, -32600, "json_members"}},
		{"A24 an id of 600 bytes", as(call(`"`+strings.Repeat("x", 600)+`"`, "tools/call", `{"name":"ok"}`)), want{400, -32600, "id_too_long"}},
		{"A24 a number of 600 digits", as(call(strings.Repeat("9", 600), "tools/call", `{"name":"ok"}`)), want{400, -32600, "id_too_long"}},
	}
	refuseAll(t, attacks)
}

func slicesRepeat(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

func members(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":0`, i)
	}
	return b.String()
}

// What is large is refused while or before it is read. Go's client sends it, with
// the flow control that HTTP/2 needs.
func TestSize(t *testing.T) {
	for _, w := range wires {
		for _, a := range []struct {
			row  string
			body string
			want want
		}{
			{"A14 a batch of 100,000", "[" + strings.TrimSuffix(strings.Repeat(`{"jsonrpc":"2.0","method":"m"},`, 100_000), ",") + "]", want{400, -32600, "batch_too_long"}},
			{"A22 10 MiB", callTool(strings.Repeat("x", 10<<20)), want{413, 40000, "body_too_large"}},
			{"A22 a name of 1 MB", callTool(strings.Repeat("x", 1_000_000)), notFound},
			{"A22 a uri of 1 MB", call("1", "resources/read", `{"uri":"`+strings.Repeat("x", 1_000_000)+`"}`), noResource},
		} {
			for _, version := range versionsOf(a.row) {
				t.Run(a.row+"/"+version+"/"+w.name, func(t *testing.T) {
					up := watch(t)
					m, _ := post(t, alice, a.body).in(version)
					want := a.want
					if version == v26 { // no header could be as large
						m = m.without("Mcp-Name").with("Mcp-Name: ok")
						if want.status == http.StatusOK {
							want = headerMismatch
						}
					}
					r := stream(t, w, m).rest(t)
					up.nothing(t)
					want.check(t, r)
				})
			}
		}
		t.Run("A22 a header of 2 MB/"+w.name, func(t *testing.T) {
			up := watch(t)
			r := w.send(t, post(t, alice, callTool("ok"), "X-Large: "+strings.Repeat("x", 2<<20)))
			up.nothing(t)
			if r.status != 431 && r.err == nil {
				t.Errorf("status %d", r.status)
			}
		})
	}
	for version, w := range both(versions) {
		t.Run("A22 5 MiB without a length/"+version+"/"+w.name, func(t *testing.T) {
			up := watch(t)
			m := callOf(t, version, alice, "ok")
			m.body = []byte(callTool(strings.Repeat("x", 5<<20)))
			r, transport, _ := m.request(t, w)
			r.ContentLength = -1
			resp, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			up.nothing(t)
			want{413, 40000, "body_too_large"}.check(t, &reply{status: resp.StatusCode, header: resp.Header, body: body})
		})
		t.Run("A24 ids are echoed as they were written/"+version+"/"+w.name, func(t *testing.T) {
			for _, id := range []string{`9007199254740993`, `1.0`, `1e0`, `-0`, `"1"`, `"\u0031"`, `""`, `123456789012345678901234567890`} {
				up := watch(t)
				refused, _ := post(t, alice, call(id, "tools/call", `{"name":"admin"}`)).in(version)
				if got := w.send(t, refused).refusal(t); string(got.ID) != id {
					t.Errorf("the refusal of %s has the id %s", id, got.ID)
				}
				m, _ := post(t, alice, call(id, "tools/call", `{"name":"ok"}`)).in(version)
				r := w.send(t, m).ok(t)
				if !bytes.Contains(r.body, []byte(`"id":`+id+`,`)) {
					t.Errorf("the answer to %s is %s", id, r.body)
				}
				if got := up.one(t); !bytes.Equal(got.body, m.body) {
					t.Errorf("the server received %s, not %s", got.body, m.body)
				}
			}
		})
	}
	t.Run("A22 the limit that is configured", func(t *testing.T) {
		up := watch(t)
		host := fmt.Sprintf("127.0.0.1:%d", world.small)
		m := post(t, alice, callTool(strings.Repeat("x", 2000))).to(t, world.small, host, "http://"+host+"/prefix", alice)
		m.path = "/prefix/mcp"
		want{413, 40000, "body_too_large"}.check(t, sendH1(t, m))
		m.raw, m.header = true, append(m.header, "Transfer-Encoding: chunked")
		m.body = fmt.Appendf(nil, "%x\r\n%s\r\n0\r\n\r\n", len(m.body), m.body)
		want{413, 40000, "body_too_large"}.check(t, sendH1(t, m))
		up.nothing(t)
	})
}

func TestBodyInTime(t *testing.T) {
	everywhere(t, "A23 a body in pieces is read whole", versions, func(t *testing.T, version string, w wire) {
		for name, expected := range map[string]int{"ok": 1, "admin": 0} {
			up := watch(t)
			m := callOf(t, version, alice, name)
			whole := m.body
			r := inPieces(t, w, m, whole, true)
			if got := up.all(); len(got) != expected {
				t.Fatalf("the server received %d requests for %s", len(got), name)
			} else if expected == 1 {
				r.ok(t)
				if !bytes.Equal(got[0].body, whole) || got[0].header.Get("Content-Length") != fmt.Sprint(len(whole)) {
					t.Errorf("the server received %q with %v", got[0].body, got[0].header)
				}
			} else {
				notFound.check(t, r)
			}
		}
	})
	t.Run("A23 a body that does not end", func(t *testing.T) {
		up := watch(t)
		tooLarge, tooSlow := want{413, 40000, "body_too_large"}, want{408, 40000, "body_too_slow"}
		var answers []func()
		for header, want := range map[string]want{"X-No-Length: yes": tooSlow, "Content-Length: 500": tooSlow, "Content-Length: 20000000": tooLarge} {
			for _, version := range versions {
				for _, w := range wires {
					m := callOf(t, version, alice, "ok", header)
					answer := beginInPieces(t, w, m, m.body[:10], false)
					answers = append(answers, func() { want.check(t, answer()) })
				}
			}
		}
		// All have begun, because each takes as long as the gateway has patience.
		for _, check := range answers {
			check()
		}
		up.nothing(t)
	})
	for _, version := range versions {
		t.Run("A23 a body shorter than its length/"+version+"/h1", func(t *testing.T) {
			up := watch(t)
			m := callOf(t, version, alice, "ok", "Content-Length: 500").toPlain(t, alice, "main")
			m.raw = true
			conn := dial(t, m.port, "")
			_, _ = conn.Write(m.bytesH1())
			_ = conn.(interface{ CloseWrite() error }).CloseWrite()
			want{400, 40000, "body_unreadable"}.check(t, readH1(bufio.NewReader(conn), "POST"))
			up.nothing(t)
		})
		for name, length := range map[string]int{"shorter": 500, "longer": 10} {
			t.Run("A23 a body "+name+" than its length/"+version+"/h2", func(t *testing.T) {
				up := watch(t)
				r := sendH2(t, callOf(t, version, alice, "ok", fmt.Sprintf("Content-Length: %d", length)))
				up.nothing(t)
				if r.err == nil && r.status < 400 {
					t.Errorf("status %d, %q", r.status, r.body)
				}
			})
		}
		t.Run("A23 Expect without a token/"+version, func(t *testing.T) {
			up := watch(t)
			m := callOf(t, version, alice, "ok", "Expect: 100-continue").without("Authorization")
			r := sendH1(t, m)
			up.nothing(t)
			want{401, 40100, "token_missing"}.check(t, r)
			if len(r.hints) > 0 {
				t.Error("the body was asked for before the token was judged")
			}
		})
		t.Run("A23 Expect with a token/"+version, func(t *testing.T) {
			up := watch(t)
			m := callOf(t, version, alice, "ok", "Expect: 100-continue")
			conn := dial(t, m.port, "http/1.1")
			whole := m.bytesH1()
			body := len(m.body)
			_, _ = conn.Write(whole[:len(whole)-body])
			from := bufio.NewReader(conn)
			resp, err := http.ReadResponse(from, &http.Request{Method: "POST"})
			if err != nil || resp.StatusCode != 100 {
				t.Fatalf("no 100 Continue: %v", err)
			}
			up.nothing(t)
			_, _ = conn.Write(whole[len(whole)-body:])
			readH1(from, "POST").ok(t)
			if got := up.one(t); got.header.Get("Expect") != "" {
				t.Error("the server received Expect")
			}
		})
	}
}

// inPieces sends a message with its body byte by byte, without a length unless the
// message has one. The body ends only if it is whole.
func inPieces(t *testing.T, w wire, m message, body []byte, whole bool) *reply {
	t.Helper()
	return beginInPieces(t, w, m, body, whole)()
}

// beginInPieces is the same without waiting for the answer.
func beginInPieces(t *testing.T, w wire, m message, body []byte, whole bool) (answer func() *reply) {
	t.Helper()
	record(t, m.version(), w.name)
	if w.name == "h2" {
		framer := openH2(t, m.port, m.fieldsH2(), false)
		for i := range body {
			if err := framer.WriteData(1, whole && i == len(body)-1, body[i:i+1]); err != nil {
				t.Fatal(err)
			}
		}
		return func() *reply { return readH2(framer) }
	}
	chunked := !strings.Contains(fmt.Sprint(m.header), "Content-Length:")
	m.raw, m.body = true, body
	if chunked {
		m, m.body = m.with("Transfer-Encoding: chunked"), nil
		for _, c := range body {
			m.body = append(m.body, fmt.Sprintf("1;ext=admin\r\n%c\r\n", c)...)
		}
		if whole {
			m.body = append(m.body, "0\r\n\r\n"...)
		}
	}
	conn := dial(t, m.port, "http/1.1")
	_, _ = conn.Write(m.bytesH1())
	return func() *reply { return readH1(bufio.NewReader(conn), m.method) }
}
