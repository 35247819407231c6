package mcp

import "github.com/caddymcp/caddy-mcp-gateway/internal/jsonrpc"

// Object says what a method acts on, and with that which member of its params is
// judged.
type Object uint8

// The kinds of objects.
const (
	// NoObject: the method acts on the server as a whole.
	NoObject Object = iota
	// Tool is params.name.
	Tool
	// Prompt is params.name.
	Prompt
	// Resource is params.uri.
	Resource
	// Reference is params.ref: a prompt by name, or a resource or template by uri.
	Reference
	// Subscription is params.notifications: every uri it lists, and a permission
	// for each of its switches.
	Subscription
	// Task is params.taskId. The permission is about the server; whose task it is,
	// and whether its tool may still be called, is judged as well.
	Task
)

// From is who may send a message.
type From uint8

// The senders.
const (
	Client From = 1 << iota
	Server
)

// Method is a row of the table of methods.
type Method struct {
	Name string
	// Kind is jsonrpc.Request or jsonrpc.Notification.
	Kind jsonrpc.Kind
	From From
	// Since and Until are the first and the last revision that have it; an empty
	// Until means that the newest has it too.
	Since, Until Version
	Object       Object
	// Permission is what the sender must hold on the object. A server's request
	// needs the principal to hold it on the server.
	Permission Permission
	// List is the list its answer holds. A list is not refused as a whole: its
	// items are judged one by one by Permission, so that who may see none gets an
	// empty one.
	List jsonrpc.List
	// Instructions is whether its answer may have instructions for the model.
	Instructions bool
}

const (
	request      = jsonrpc.Request
	notification = jsonrpc.Notification
	legacyUntil  = V20251125
)

// methods is the complete table (mcp-protocol.md section 3). What is not in it is
// not carried: of the specification that is the tasks that a client hosts for a
// server (2025-11-25).
var methods = []Method{
	// Requests of the client.
	{Name: "initialize", Kind: request, From: Client, Until: legacyUntil, Permission: ServersUse, Instructions: true},
	{Name: "server/discover", Kind: request, From: Client, Since: V20260728, Permission: ServersUse, Instructions: true},
	{Name: "ping", Kind: request, From: Client | Server, Until: legacyUntil, Permission: ServersUse},
	{Name: "tools/list", Kind: request, From: Client, Permission: ToolsRead, List: jsonrpc.Tools},
	{Name: "tools/call", Kind: request, From: Client, Object: Tool, Permission: ToolsExecute},
	{Name: "resources/list", Kind: request, From: Client, Permission: ResourcesRead, List: jsonrpc.Resources},
	{Name: "resources/templates/list", Kind: request, From: Client, Permission: ResourcesRead, List: jsonrpc.ResourceTemplates},
	{Name: "resources/read", Kind: request, From: Client, Object: Resource, Permission: ResourcesRead, List: jsonrpc.Contents},
	{Name: "resources/subscribe", Kind: request, From: Client, Until: legacyUntil, Object: Resource, Permission: ResourcesSubscribe},
	{Name: "resources/unsubscribe", Kind: request, From: Client, Until: legacyUntil, Object: Resource, Permission: ResourcesSubscribe},
	{Name: "subscriptions/listen", Kind: request, From: Client, Since: V20260728, Object: Subscription, Permission: ServersUse},
	{Name: "prompts/list", Kind: request, From: Client, Permission: PromptsRead, List: jsonrpc.Prompts},
	{Name: "prompts/get", Kind: request, From: Client, Object: Prompt, Permission: PromptsExecute},
	{Name: "completion/complete", Kind: request, From: Client, Object: Reference, Permission: CompletionsUse},
	{Name: "logging/setLevel", Kind: request, From: Client, Until: legacyUntil, Permission: LoggingWrite},
	// Tasks are part of 2025-11-25, and an extension of 2026-07-28. Beside the
	// permission, the task must be the principal's own.
	{Name: "tasks/get", Kind: request, From: Client, Since: V20251125, Object: Task, Permission: TasksRead},
	{Name: "tasks/result", Kind: request, From: Client, Since: V20251125, Until: legacyUntil, Object: Task, Permission: TasksRead},
	{Name: "tasks/list", Kind: request, From: Client, Since: V20251125, Until: legacyUntil, Permission: TasksRead, List: jsonrpc.Tasks},
	{Name: "tasks/cancel", Kind: request, From: Client, Since: V20251125, Object: Task, Permission: TasksWrite},
	{Name: "tasks/update", Kind: request, From: Client, Since: V20260728, Object: Task, Permission: TasksWrite},

	// Notifications of the client.
	{Name: "notifications/initialized", Kind: notification, From: Client, Until: legacyUntil, Permission: ServersUse},
	{Name: "notifications/cancelled", Kind: notification, From: Client, Permission: ServersUse},
	{Name: "notifications/progress", Kind: notification, From: Client, Until: legacyUntil, Permission: ServersUse},
	{Name: "notifications/roots/list_changed", Kind: notification, From: Client, Until: legacyUntil, Permission: ClientRoots},

	// Requests of the server; in 2026-07-28 they come inside a result instead.
	{Name: "sampling/createMessage", Kind: request, From: Server, Until: legacyUntil, Permission: ClientSampling},
	{Name: "elicitation/create", Kind: request, From: Server, Since: V20250618, Until: legacyUntil, Permission: ClientElicitation},
	{Name: "roots/list", Kind: request, From: Server, Until: legacyUntil, Permission: ClientRoots},

	// Notifications of the server.
	{Name: "notifications/message", Kind: notification, From: Server},
	{Name: "notifications/progress", Kind: notification, From: Server},
	{Name: "notifications/cancelled", Kind: notification, From: Server},
	{Name: "notifications/tools/list_changed", Kind: notification, From: Server},
	{Name: "notifications/prompts/list_changed", Kind: notification, From: Server},
	{Name: "notifications/resources/list_changed", Kind: notification, From: Server},
	{Name: "notifications/resources/updated", Kind: notification, From: Server, Object: Resource, Permission: ResourcesRead},
	{Name: "notifications/subscriptions/acknowledged", Kind: notification, From: Server, Since: V20260728},
	{Name: "notifications/elicitation/complete", Kind: notification, From: Server, Since: V20251125, Until: legacyUntil},
	{Name: "notifications/tasks/status", Kind: notification, From: Server, Since: V20251125, Until: legacyUntil, Object: Task, Permission: TasksRead},
	{Name: "notifications/tasks", Kind: notification, From: Server, Since: V20260728, Object: Task, Permission: TasksRead},
}

var byName = func() map[string][]*Method {
	index := make(map[string][]*Method, len(methods))
	for i := range methods {
		index[methods[i].Name] = append(index[methods[i].Name], &methods[i])
	}
	return index
}()

// Lookup returns the row of a method that the sender has in a revision, as a
// request or as a notification; nil when there is none.
func Lookup(name string, from From, kind jsonrpc.Kind, v Version) *Method {
	for _, m := range byName[name] {
		if m.From&from != 0 && m.Kind == kind && m.in(v) {
			return m
		}
	}
	return nil
}

// IsRequest reports whether any revision has a method of that name as a client's
// request; such a message without an id is malformed rather than unknown.
func IsRequest(name string) bool {
	for _, m := range byName[name] {
		if m.From&Client != 0 && m.Kind == request {
			return true
		}
	}
	return false
}

func (m *Method) in(v Version) bool {
	return m.Since <= v && (m.Until == "" || v <= m.Until)
}

// Methods returns a copy of the table.
func Methods() []Method { return append([]Method(nil), methods...) }

// ClientMethods returns the names of all that a client may send, in any revision.
func ClientMethods() []string {
	var names []string
	for i := range methods {
		if methods[i].From&Client != 0 {
			names = append(names, methods[i].Name)
		}
	}
	return names
}
