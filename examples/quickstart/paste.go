package main

import (
	"io"
	"text/template"
)

// instructions is what a user copies into an MCP client.
var instructions = template.Must(template.New("").Parse(`
== What to paste

Endpoints
  {{.Notes}}
  {{.Thermostat}}

Tokens (valid for {{.Days}} days at most; also in {{.Dir}})
{{- range .IDs}}
  {{.Role}}: {{.Token}}
{{- end}}
{{with index .IDs 1}}
The configurations below use the {{.Role}} token; put the other one in to be allowed more.

Claude Code
  claude mcp add --transport http notes {{$.Notes}} --header "Authorization: Bearer $(cat '{{$.Dir}}/{{.Role}}.token')"
  claude mcp add --transport http thermostat {{$.Thermostat}} --header "Authorization: Bearer $(cat '{{$.Dir}}/{{.Role}}.token')"

Cursor: .cursor/mcp.json
  {
    "mcpServers": {
      "notes": {"url": "{{$.Notes}}", "headers": {"Authorization": "Bearer {{.Token}}"}},
      "thermostat": {"url": "{{$.Thermostat}}", "headers": {"Authorization": "Bearer {{.Token}}"}}
    }
  }

VS Code: .vscode/mcp.json
  {
    "servers": {
      "notes": {"type": "http", "url": "{{$.Notes}}", "headers": {"Authorization": "Bearer {{.Token}}"}},
      "thermostat": {"type": "http", "url": "{{$.Thermostat}}", "headers": {"Authorization": "Bearer {{.Token}}"}}
    }
  }

Any other client: transport "Streamable HTTP", an endpoint from above, and the header
  Authorization: Bearer {{.Token}}

By hand
  curl {{$.Thermostat}} \
    -H "Authorization: Bearer $(cat '{{$.Dir}}/{{.Role}}.token')" \
    -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
    -H 'MCP-Protocol-Version: 2025-11-25' \
    -d '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
{{end}}
`))

// paste prints the instructions.
func paste(out io.Writer, publicURL, dir string, ids []identity) error {
	type who struct{ Role, Token string }
	data := struct {
		Notes, Thermostat, Dir string
		Days                   int
		IDs                    []who
	}{
		Notes:      endpoint(publicURL, "notes"),
		Thermostat: endpoint(publicURL, "thermostat"),
		Dir:        dir,
		Days:       int(tokenLifetime.Hours() / 24),
	}
	for _, id := range ids {
		data.IDs = append(data.IDs, who{id.role, id.token})
	}
	return instructions.Execute(out, data)
}
