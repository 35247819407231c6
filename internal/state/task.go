package state

import "time"

// Task says whose a task of a server is and what it was made for.
type Task struct {
	Owner Owner
	// Tool is the tool whose call made it.
	Tool string
	// Arguments is the JSON text of that call's arguments, nil when it had none. They
	// are kept only for a rule that looks at them, Known tells whether they are.
	Arguments []byte
	Known     bool
	// Upstream is the address of the server's upstream that made it.
	Upstream string
	Created  time.Time
}
