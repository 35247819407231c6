package soundness

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestHeaders(t *testing.T) {
	// tool is a modern call; its headers are all given.
	tool := func(name string, header ...string) message {
		return post(t, alice, modern("tools/call", fmt.Sprintf(`"name":%q`, name)), header...)
	}
	named := func(body, header string) message {
		return tool(body, modernHeaders("tools/call", header)...)
	}
	meta := func(members string) string {
		return call("1", "tools/call", `{"name":"ok","_meta":{`+members+`}}`)
	}
	const (
		version      = `"io.modelcontextprotocol/protocolVersion":"2026-07-28"`
		capabilities = `"io.modelcontextprotocol/clientCapabilities":{}`
	)
	standard := modernHeaders("tools/call", "ok")
	as := func(body string, header ...string) message { return post(t, alice, body, header...) }
	bodiless := func(method string, header ...string) message {
		m := as("", header...).without("Content-Type")
		m.method, m.body = method, nil
		return m
	}
	from := func(origin string) message { return as(callTool("ok"), "Origin: "+origin) }
	badOrigin := want{403, 40300, "origin"}
	badHost := want{421, 40300, "host"}
	addressed := func(host string) message {
		m := as(callTool("ok"))
		m.host = host
		return m
	}
	at := func(path string) message {
		m := as(callTool("ok"))
		m.path = path
		return m
	}
	long := strings.Repeat("x", 8<<10)

	attacks := []attack{
		{"B1 Mcp-Name names what is allowed, the body what is not", named("admin", "ok"), headerMismatch},
		{"B1 the reverse", named("ok", "admin"), headerMismatch},
		{"B1 Mcp-Name in another case", named("ok", "OK"), headerMismatch},
		{"B2 Mcp-Method lies", tool("ok", modernHeaders("tools/list", "ok")...), headerMismatch},
		{"B2 Mcp-Method in another case", tool("ok", modernHeaders("Tools/Call", "ok")...), headerMismatch},
		{"B3 no Mcp-Method", tool("ok", standard[0], standard[2]), headerMissing},
		{"B3 no Mcp-Name", tool("ok", standard[:2]...), headerMissing},
		{"B3 an empty Mcp-Name", named("ok", " "), headerMismatch},
		{"B3 no MCP-Protocol-Version", tool("ok", standard[1:]...), headerMissing},
		{"B4 headers lie in 2025-11-25", as(callTool("admin"), "MCP-Protocol-Version: 2025-11-25", "Mcp-Method: tools/list", "Mcp-Name: ok"), notFound},
		{"B4 headers lie without a version", as(callTool("admin"), "Mcp-Method: ping", "Mcp-Name: ok"), notFound},
		{"B5 modern _meta and no header", tool("ok"), headerMissing},
		{"B6 legacy header, modern _meta", tool("ok", append([]string{"MCP-Protocol-Version: 2025-11-25"}, standard[1:]...)...), headerMismatch},
		{"B6 legacy header, modern _meta, 2025-06-18", tool("ok", append([]string{"MCP-Protocol-Version: 2025-06-18"}, standard[1:]...)...), headerMismatch},
		{"B6 legacy header, modern _meta, 2025-03-26", tool("ok", append([]string{"MCP-Protocol-Version: 2025-03-26"}, standard[1:]...)...), headerMismatch},
		{"B6 legacy header and nothing else modern", tool("ok", "MCP-Protocol-Version: 2025-11-25"), headerMismatch},
		{"B6 modern header, legacy _meta", as(meta(strings.Replace(version, v26, "2025-11-25", 1)+","+capabilities), standard...), headerMismatch},
		{"B7 no version in _meta", as(meta(capabilities), standard...), want{400, -32602, "meta_version"}},
		{"B7 no _meta", as(callTool("ok"), standard...), want{400, -32602, "meta_version"}},
		{"B7 no capabilities in _meta", as(meta(version), standard...), want{400, -32602, "meta_capabilities"}},
		{"B7 capabilities that are none", as(meta(version+`,"io.modelcontextprotocol/clientCapabilities":[]`), standard...), want{400, -32602, "meta_capabilities"}},
		{"B7 the version in another case", as(meta(version+`,"io.modelcontextprotocol/ProtocolVersion":"2025-11-25",`+capabilities), standard...), caseVariant},
		{"B7 the version is no text", as(meta(`"io.modelcontextprotocol/protocolVersion":20260728,`+capabilities), standard...), wrongType},
		{"B8 an unknown legacy version", as(callTool("ok"), "MCP-Protocol-Version: 2025-01-01"), unsupported},
		{"B8 an unknown version and no _meta", as(callTool("ok"), "MCP-Protocol-Version: latest"), unsupported},
		{"B8 an empty version", as(callTool("ok"), "MCP-Protocol-Version: "), unsupported},
		{"B8 two versions in one header", as(callTool("ok"), "MCP-Protocol-Version: 2025-03-26, 2026-07-28"), unsupported},
		{"B8 an unknown version on GET", bodiless("GET", "MCP-Protocol-Version: 1"), unsupported},
		{"B9 two Mcp-Name lines", named("ok", "ok").with("Mcp-Name: admin"), headerSeveral},
		{"B9 two Mcp-Name lines that agree", named("ok", "ok").with("mcp-name: ok"), headerSeveral},
		{"B9 names joined by a comma", named("ok", "ok, admin"), headerMismatch},
		{"B9 two Mcp-Method lines", named("ok", "ok").with("Mcp-Method: tools/list"), headerSeveral},
		{"B9 two MCP-Protocol-Version lines", named("ok", "ok").with("MCP-Protocol-Version: 2025-11-25"), headerSeveral},
		{"B9 two Mcp-Session-Id lines", as(callTool("ok"), "Mcp-Session-Id: a", "Mcp-Session-Id: b"), headerSeveral},
		{"B10 an encoded name that is not allowed", named("admin", "=?base64?YWRtaW4=?="), notFound},
		{"B10 an encoded name unlike the body", named("ok", "=?base64?YWRtaW4=?="), headerMismatch},
		{"B11 no padding", named("ok", "=?base64?b2s?="), headerMismatch},
		{"B11 the URL-safe alphabet", named("ok?>", "=?base64?b2s_Pg==?="), headerMismatch},
		{"B11 stray bits at the end", named("ok", "=?base64?b2t=?="), headerMismatch},
		{"B11 a space within", named("ok", "=?base64?b2s =?="), headerMismatch},
		{"B11 a marker in capitals", named("ok", "=?BASE64?b2s=?="), headerMismatch},
		{"B11 no end", named("ok", "=?base64?b2s="), headerMismatch},
		{"B11 encoded twice", named("ok", "=?base64?PT9iYXNlNjQ/YjJzPT89?="), headerMismatch},
		{"B12 a name that looks encoded", named("=?base64?b2s=?=", "=?base64?b2s=?="), headerMismatch},
		{"B14 Mcp_Name for Mcp-Name", tool("ok", standard[0], standard[1], "Mcp_Name: ok"), headerMissing},
		{"B14 MCP_METHOD for Mcp-Method", tool("ok", standard[0], "MCP_METHOD: tools/call", standard[2]), headerMissing},
		{"B19 GET", bodiless("GET", "MCP-Protocol-Version: "+v26), want{405, 40000, "method"}},
		{"B19 DELETE", bodiless("DELETE", "MCP-Protocol-Version: "+v26), want{405, 40000, "method"}},
		{"B19 PUT", bodiless("PUT"), want{405, 40000, "method"}},
		{"B19 TRACE", bodiless("TRACE"), want{405, 40000, "method"}},
		{"B19 PRI", bodiless("BREW"), want{405, 40000, "method"}},
		{"B20 a response", as(`{"jsonrpc":"2.0","id":1,"result":{}}`, standard...), want{400, -32600, "response"}},
		{"B20 an error", as(`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`, standard...), want{400, -32600, "response"}},
		{"B20 a legacy notification", as(`{"jsonrpc":"2.0","method":"notifications/initialized"}`, modernHeaders("notifications/initialized", "")...), unknownModern},
		{"B21 initialize", as(modern("initialize", `"protocolVersion":"2026-07-28"`), modernHeaders("initialize", "")...), unknownModern},
		{"B21 ping", as(modern("ping", ""), modernHeaders("ping", "")...), unknownModern},
		{"B21 a modern method in a legacy revision", as(call("1", "subscriptions/listen", `{"notifications":{}}`), "MCP-Protocol-Version: 2025-11-25"), unknownMethod},
		{"B23 http://evil.example", from("http://evil.example"), badOrigin},
		{"B23 null", from("null"), badOrigin},
		{"B23 empty", from(""), badOrigin},
		{"B23 a domain that begins alike", from("https://localhost.evil.example"), badOrigin},
		{"B23 a user that looks like the host", from("https://localhost@evil.example"), badOrigin},
		{"B23 a path", from("https://localhost/evil.example"), badOrigin},
		{"B23 two origins", from("https://localhost").with("Origin: http://evil.example"), badOrigin},
		{"B24 evil.example", addressed("evil.example"), badHost},
		{"B24 evil.example with our port", addressed(fmt.Sprintf("evil.example:%d", world.secure)), badHost},
		{"B24 our name and a dot", addressed("localhost.evil.example"), badHost},
		{"B24 an address of the network", addressed("10.0.0.1"), badHost},
		{"E4 a session id with a space", as(callTool("ok"), "Mcp-Session-Id: a b"), want{400, 40000, "session_malformed"}},
		{"E4 a session id that is not ASCII", as(callTool("ok"), "Mcp-Session-Id: s\u00e9ance"), want{400, 40000, "session_malformed"}},
		{"E4 a session id of 8 KiB", as(callTool("ok"), "Mcp-Session-Id: "+long), want{400, 40000, "session_malformed"}},
	}
	for _, path := range []string{
		"/", "/mcp/", "//mcp", "/./mcp", "/x/../mcp", "/mcp/../other", "/mcp%2f..%2fadmin", "/%6dcp", "/MCP", "/mcp;x", "/mcp;/", "/mcp%00",
		"/mcp%3f", "/mcp%23", "/mcp.", "/mcp%20", "/servers/main/mcp/", "/servers//mcp", "/servers/main/../other/mcp", "/servers/main%2fmcp",
		"/servers/MAIN/mcp", "/servers/main;x/mcp", "/servers/%6dain/mcp", "/servers/other/mcp", "/servers/main/admin", "/sse", "/message",
	} {
		attacks = append(attacks, attack{"B25 path " + path, at(path), noEndpoint})
	}
	refuseAll(t, attacks)
}

func TestVersions(t *testing.T) {
	for _, w := range wires {
		// Notifications that go nowhere are accepted, because some clients end their
		// session when one gets an error.
		for row, m := range map[string]message{
			"A21 an unknown notification":      post(t, alice, `{"jsonrpc":"2.0","method":"notifications/vendor","params":{"name":"admin"}}`),
			"C12 roots that may not be told":   post(t, alice, `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`),
			"B20 a cancellation in 2026-07-28": post(t, alice, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`, modernHeaders("notifications/cancelled", "")...),
		} {
			t.Run(row+"/"+w.name, func(t *testing.T) {
				up := watch(t)
				r := w.send(t, m)
				up.nothing(t)
				if r.status != 202 || len(r.body) > 0 {
					t.Errorf("status %d, %q", r.status, r.body)
				}
			})
		}
		t.Run("B8 supported versions are told/"+w.name, func(t *testing.T) {
			up := watch(t)
			body := strings.ReplaceAll(modern("tools/list", ""), v26, "2099-01-01")
			r := w.send(t, post(t, alice, body, "MCP-Protocol-Version: 2099-01-01", "Mcp-Method: tools/list"))
			up.nothing(t)
			unsupported.check(t, r)
			data := r.refusal(t).Error.Data
			if data.Requested != "2099-01-01" || !slices.Contains(data.Supported, v26) || !slices.Contains(data.Supported, "2025-11-25") {
				t.Errorf("told %+v", data)
			}
		})
		for _, version := range []string{v06, v25} {
			t.Run("B22 a batch in a session without batches/"+version+"/"+w.name, func(t *testing.T) {
				up := watch(t)
				id := session(t, alice, version)
				up.forget()
				for _, said := range []string{v03, "", version} {
					m := post(t, alice, "["+callTool("ok")+"]", "Mcp-Session-Id: "+id)
					if said != "" {
						m = m.with("MCP-Protocol-Version: " + said)
					}
					noBatch.check(t, w.send(t, m))
				}
				up.nothing(t)
			})
		}
	}
}

// What must pass, and how it arrives.
func TestHeadersForwarded(t *testing.T) {
	body := modern("tools/call", `"name":"ok","arguments":{"region":"us"}`)
	forwarded := func(t *testing.T, w wire, m message) (received, *reply) {
		t.Helper()
		up := watch(t)
		r := w.send(t, m).ok(t)
		got := up.one(t)
		if string(got.body) != string(m.body) {
			t.Errorf("the server received %s", got.body)
		}
		return got, r
	}
	for _, w := range wires {
		run := func(name string, f func(t *testing.T)) { t.Run(name+"/"+w.name, f) }
		run("B4 lying headers of a legacy request are not forwarded", func(t *testing.T) {
			got, _ := forwarded(t, w, post(t, alice, callTool("ok"), "Mcp-Name: admin", "Mcp-Method: vendor/admin"))
			if got.header["Mcp-Name"] != nil || got.header["Mcp-Method"] != nil {
				t.Errorf("the server received %v", got.header)
			}
		})
		run("B13 names in any case, values with white space around", func(t *testing.T) {
			for _, name := range []string{"mcp-name:ok", "MCP-NAME: \t ok \t", "mCp-NaMe: ok"} {
				got, _ := forwarded(t, w, post(t, alice, body, "mcp-protocol-version: "+v26, "MCP-METHOD:tools/call", name))
				if value := got.header["Mcp-Name"]; len(value) != 1 || value[0] != "ok" {
					t.Errorf("the server received %q", value)
				}
			}
		})
		for _, version := range versions {
			run("B14 underscore twins are dropped/"+version, func(t *testing.T) {
				m := callOf(t, version, alice, "ok", "Mcp_Name: admin", "mcp_method: admin", "X_Mcp_Subject: admin", "X-Mcp_Subject: admin",
					"X.Mcp.Subject: admin", "Mcp_Session_Id: x", "Mcp_Protocol_Version: 2025-11-25", "Content_Type: text/plain", "X_Forwarded_For: 6.6.6.6")
				got, _ := forwarded(t, w, m)
				for name := range got.header {
					if strings.ContainsAny(name, "_.") {
						t.Errorf("the server received the header %s", name)
					}
				}
			})
		}
		run("B16 Mcp-Param is the server's to compare", func(t *testing.T) {
			got, _ := forwarded(t, w, post(t, alice, body, append(modernHeaders("tools/call", "ok"), "Mcp-Param-Region: eu")...))
			if value := got.header["Mcp-Param-Region"]; !slices.Equal(value, []string{"eu"}) {
				t.Errorf("the server received %q", value)
			}
		})
		run("B17 an unknown Mcp-Param", func(t *testing.T) {
			got, _ := forwarded(t, w, post(t, alice, body, append(modernHeaders("tools/call", "ok"), "Mcp-Param-Foo: =?base64?4piD?=")...))
			if value := got.header["Mcp-Param-Foo"]; !slices.Equal(value, []string{"=?base64?4piD?="}) {
				t.Errorf("the server received %q", value)
			}
		})
		run("B18 sessions and event ids have no meaning", func(t *testing.T) {
			up := watch(t)
			up.replyWith("application/json", `{"jsonrpc":"2.0","id":1,"result":{}}`, "Mcp-Session-Id: upstream-made")
			r := w.send(t, post(t, alice, body, append(modernHeaders("tools/call", "ok"), "Mcp-Session-Id: x", "Last-Event-ID: 7")...)).ok(t)
			got := up.one(t)
			if got.header["Mcp-Session-Id"] != nil || got.header["Last-Event-Id"] != nil || r.header["Mcp-Session-Id"] != nil {
				t.Errorf("the server received %v, the client %v", got.header, r.header)
			}
		})
		run("A Mcp-Name where the method has none", func(t *testing.T) {
			up := watch(t)
			w.send(t, post(t, alice, modern("tools/list", ""), modernHeaders("tools/list", "admin")...)).ok(t)
			if got := up.one(t); got.header["Mcp-Name"] != nil {
				t.Errorf("the server received a Mcp-Name that nobody has compared: %q", got.header["Mcp-Name"])
			}
		})
	}
	t.Run("B12 a name that looks encoded, encoded", func(t *testing.T) {
		up := watch(t)
		m := post(t, root, modern("tools/call", `"name":"=?base64?b2s=?="`), modernHeaders("tools/call", "=?base64?PT9iYXNlNjQ/YjJzPT89?=")...)
		sendH1(t, m).ok(t)
		up.one(t)
	})
	for _, version := range versions {
		t.Run("B15 Connection takes nothing away/"+version, func(t *testing.T) {
			hop := []string{
				"Connection: keep-alive, Mcp-Name, Mcp-Method, Mcp-Session-Id, Mcp-Protocol-Version, X-Mcp-Subject, X-Mcp-Roles, Content-Type, Authorization",
				"TE: trailers", "Upgrade: h2c", "Proxy-Connection: X-Mcp-Subject", "Keep-Alive: timeout=5",
			}
			expected := map[string]string{
				"X-Mcp-Subject": "alice", "X-Mcp-Issuer": "https://rsa.test", "X-Mcp-Client-Id": "app", "X-Mcp-Roles": "a", "Content-Type": "application/json",
			}
			watch(t)
			m := callOf(t, version, alice, "ok", hop...)
			if version == v26 {
				expected["Mcp-Name"], expected["Mcp-Method"] = "ok", "tools/call"
			} else {
				m = m.with("Mcp-Session-Id: " + session(t, alice, version))
				expected["Mcp-Session-Id"] = fmt.Sprintf("upstream-session-%d", world.up.made)
			}
			if version != v03 {
				expected["Mcp-Protocol-Version"] = version
			}
			got, _ := forwarded(t, h1, m)
			for name, value := range expected {
				if !slices.Equal(got.header[name], []string{value}) {
					t.Errorf("%s is %q", name, got.header[name])
				}
			}
			for _, name := range []string{"Upgrade", "Te", "Proxy-Connection", "Keep-Alive"} {
				if got.header[name] != nil {
					t.Errorf("the server received %s", name)
				}
			}
		})
	}
	t.Run("B23 our own origin and the allowed ones", func(t *testing.T) {
		up := watch(t)
		host, resource := "mcp.example.com", "https://mcp.example.com"
		send := func(origin string) *reply {
			return sendH1(t, post(t, alice, callTool("ok"), "Origin: "+origin).to(t, world.public, host, resource, alice))
		}
		for _, origin := range []string{"https://mcp.example.com", "https://app.example.com"} {
			if r := send(origin).ok(t); r.header.Get("Access-Control-Allow-Origin") != origin {
				t.Errorf("the answer to %s allows %q", origin, r.header["Access-Control-Allow-Origin"])
			}
		}
		up.forget()
		for _, origin := range []string{"http://mcp.example.com", "http://localhost", "https://app.example.com.evil.test", "https://app.example.com:444", "http://127.0.0.1"} {
			want{403, 40300, "origin"}.check(t, send(origin))
		}
		m := post(t, alice, callTool("ok")).to(t, world.public, "127.0.0.1", resource, alice)
		want{421, 40300, "host"}.check(t, sendH1(t, m))
		up.nothing(t)
	})
	t.Run("B24 a request for an absolute URL", func(t *testing.T) {
		up := watch(t)
		m := post(t, alice, callTool("ok"))
		m.path = "https://evil.example/mcp"
		want{421, 40300, "host"}.check(t, sendH1(t, m))
		up.nothing(t)
	})
	t.Run("B25 two servers have no common endpoint", func(t *testing.T) {
		up := watch(t)
		m := post(t, alice, callTool("ok")).toPlain(t, alice, "main")
		sendH1(t, m).ok(t)
		if got := up.one(t); got.target != "/mcp" {
			t.Errorf("the server received %s", got.target)
		}
		up.forget()
		for _, path := range []string{"/mcp", "/servers/mcp", "/servers/nowhere/mcp"} {
			m.path = path
			noEndpoint.check(t, sendH1(t, m))
		}
		m.path = "/servers/other/mcp"
		notAllowed.check(t, sendH1(t, m))
		up.nothing(t)
	})
	t.Run("B25 the client's query stays here", func(t *testing.T) {
		up := watch(t)
		m := post(t, alice, callTool("ok"))
		m.path = "/mcp?server=other&path=/x"
		sendH1(t, m).ok(t)
		if got := up.one(t); got.target != "/mcp" {
			t.Errorf("the server received %s", got.target)
		}
	})
}
