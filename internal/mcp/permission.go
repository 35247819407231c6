// Package mcp holds the Model Context Protocol as data: its versions and eras,
// what each method acts on and which permission it needs, how its answer is
// filtered, its headers and its error codes. It judges nothing by itself and
// knows nothing of HTTP servers, so that the rest of the gateway has one place
// to look things up.
package mcp

// Permission is what a principal must hold to do something, written
// "category.action". The names are those of ContextForge where it has one
// (behaviour.md section 3.1); completions, logging, tasks, subscriptions and the
// client.* family, which it does not have, follow the same form.
type Permission uint8

// The permissions, in the order of their names' table.
const (
	PermissionNone Permission = iota
	// ServersUse opens a transport to a server: initialize, server/discover,
	// ping, the event stream and the end of a session. Any other permission on
	// an object of a server implies it for that server.
	ServersUse
	// ToolsRead lets a tool be seen, ToolsExecute lets it be called. Whoever may
	// call a tool may see it; seeing it says nothing about calling it.
	ToolsRead
	ToolsExecute
	// ResourcesRead lets a resource or template be seen and read.
	ResourcesRead
	// ResourcesSubscribe lets its changes be followed.
	ResourcesSubscribe
	// PromptsRead lets a prompt be seen, PromptsExecute lets it be fetched.
	PromptsRead
	PromptsExecute
	// CompletionsUse lets arguments be completed, for a prompt or resource that
	// the principal may use.
	CompletionsUse
	// LoggingWrite lets the server's log level be set.
	LoggingWrite
	// TasksRead and TasksWrite let a task be followed, and answered or cancelled.
	TasksRead
	TasksWrite
	// The client.* permissions let a server ask the principal's client for
	// something.
	ClientSampling
	ClientElicitation
	ClientRoots

	// PermissionCount is the number of permissions, PermissionNone included.
	PermissionCount
)

var permissionNames = [PermissionCount]string{
	ServersUse:         "servers.use",
	ToolsRead:          "tools.read",
	ToolsExecute:       "tools.execute",
	ResourcesRead:      "resources.read",
	ResourcesSubscribe: "resources.subscribe",
	PromptsRead:        "prompts.read",
	PromptsExecute:     "prompts.execute",
	CompletionsUse:     "completions.use",
	LoggingWrite:       "logging.write",
	TasksRead:          "tasks.read",
	TasksWrite:         "tasks.write",
	ClientSampling:     "client.sampling",
	ClientElicitation:  "client.elicitation",
	ClientRoots:        "client.roots",
}

// String returns the permission's name, or "none".
func (p Permission) String() string {
	if p == PermissionNone || p >= PermissionCount {
		return "none"
	}
	return permissionNames[p]
}

// ParsePermission returns the permission of that exact name; false when there is
// none.
func ParsePermission(name string) (Permission, bool) {
	for p := ServersUse; p < PermissionCount; p++ {
		if permissionNames[p] == name {
			return p, true
		}
	}
	return PermissionNone, false
}

// Permissions returns every permission, in the order of their declaration.
func Permissions() []Permission {
	all := make([]Permission, 0, PermissionCount-1)
	for p := ServersUse; p < PermissionCount; p++ {
		all = append(all, p)
	}
	return all
}

// Implies reports the permission that holding p on an object gives on the same
// object as well, or PermissionNone.
func (p Permission) Implies() Permission {
	switch p {
	case ToolsExecute:
		return ToolsRead
	case PromptsExecute:
		return PromptsRead
	default:
		return PermissionNone
	}
}
