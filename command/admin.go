package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/caddymcp/caddy-mcp-gateway/mcpadmin"
)

// object is a JSON object: a body, or a part of an answer.
type object = map[string]any

// request is what a command asks of the admin endpoint of the running Caddy, and what is
// printed of the answer. That is all there is to most commands.
type request struct {
	method, path string
	body         object
	// list is the member of the answer that has the rows of the table; empty for an
	// answer that is one row.
	list string
	// columns are the members that are printed of each row, a member of a member after
	// a dot.
	columns []string
	// title are members of the answer that are printed before the table.
	title []string
	// alone is the member that is printed alone, so that it can go into a file; the
	// table goes to standard error then.
	alone string
}

// asker makes the request of a command from its arguments.
type asker func(cmd *cobra.Command, args []string) (request, error)

// newAdminCommand makes a command that asks the admin endpoint. It takes as many
// arguments as are written in capitals after its name.
func newAdminCommand(use, short, long string, ask asker) *cobra.Command {
	_, arguments, _ := strings.Cut(use, " ")
	needed := strings.Fields(arguments)
	cmd := newCommand(use+" [flags]", short, long+`

It asks the admin endpoint of the running Caddy.
Exit code: 0 done, 2 not.`, func(cmd *cobra.Command, args []string) (int, error) {
		if len(args) != len(needed) {
			if len(needed) == 0 {
				return failed, errors.New("it takes no argument")
			}
			return failed, fmt.Errorf("it takes %s", strings.Join(needed, " and "))
		}
		asked, err := ask(cmd, args)
		if err != nil {
			return failed, err
		}
		answer, err := asked.send(cmd)
		if err != nil {
			return failed, err
		}
		return yes, asked.print(cmd, answer)
	})
	f := cmd.Flags()
	f.Bool("json", false, "Print the answer as JSON")
	f.String("address", "", "The address of Caddy's admin endpoint")
	addConfigFlags(cmd, "none; it is only read for the admin endpoint's address")
	return cmd
}

// newGroup makes a command that has commands.
func newGroup(name, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: name + " <command>", Short: short, Args: cobra.ArbitraryArgs, DisableFlagsInUseLine: true}
	cmd.AddCommand(commands...)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return exit(cmd, failed, err) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return exit(cmd, failed, fmt.Errorf("there is no command %q; see %s --help", args[0], cmd.CommandPath()))
	}
	return cmd
}

// path makes a path of parts, none of which can become more than one segment.
func path(parts ...string) string {
	var b strings.Builder
	for _, part := range parts {
		b.WriteString("/" + url.PathEscape(part))
	}
	return b.String()
}

// send sends the request and returns the body of the answer.
func (r *request) send(cmd *cobra.Command) (jsontext.Value, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(flag(cmd, "address"), nil, flag(cmd, "config"), flag(cmd, "adapter"))
	if err != nil {
		return nil, err
	}
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	answer, err := caddycmd.AdminAPIRequest(address, r.method, mcpadmin.AdminPath+r.path, http.Header{}, body)
	if err != nil {
		return nil, readable(err)
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

// readable takes the gateway's own words out of Caddy's error, if it has any.
func readable(err error) error {
	text := err.Error()
	var said struct {
		Error string `json:"error"`
	}
	if i := strings.IndexByte(text, '{'); i >= 0 && json.Unmarshal([]byte(text[i:]), &said) == nil && said.Error != "" {
		return errors.New(said.Error)
	}
	return err
}

// print prints the answer as it is, or as a table.
func (r *request) print(cmd *cobra.Command, answer jsontext.Value) error {
	if len(answer) == 0 {
		return nil
	}
	if wantsJSON(cmd) {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", bytes.TrimSpace(answer))
		return err
	}
	var whole object
	if err := json.Unmarshal(answer, &whole); err != nil {
		return fmt.Errorf("the answer can't be read: %w", err)
	}
	out := cmd.OutOrStdout()
	if r.alone != "" {
		if _, err := fmt.Fprintln(out, cell(whole[r.alone])); err != nil {
			return err
		}
		out = cmd.ErrOrStderr()
	}
	rows := []any{whole}
	if r.list != "" {
		rows, _ = whole[r.list].([]any)
	}
	for _, name := range r.title {
		fmt.Fprintf(out, "%s: %s\n", name, cell(whole[name]))
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(cells []string) { fmt.Fprintln(table, strings.TrimRight(strings.Join(cells, "\t"), "\t")) }
	head := make([]string, len(r.columns))
	for i, column := range r.columns {
		head[i] = strings.ToUpper(strings.NewReplacer("is_", "", "_at", "", "_", " ").Replace(column[strings.LastIndexByte(column, '.')+1:]))
	}
	line(head)
	for _, row := range rows {
		cells := make([]string, len(r.columns))
		for i, column := range r.columns {
			cells[i] = cell(member(row, column))
		}
		line(cells)
	}
	return table.Flush()
}

func member(row any, column string) any {
	for name := range strings.SplitSeq(column, ".") {
		within, _ := row.(object)
		row = within[name]
	}
	return row
}

// cell is a value as a table shows it.
func cell(value any) string {
	switch value := value.(type) {
	case nil:
		return "-"
	case bool:
		if value {
			return "yes"
		}
		return "no"
	case []any:
		parts := make([]string, len(value))
		for i, element := range value {
			parts[i] = cell(element)
		}
		return strings.Join(parts, " ")
	case object:
		if address, ok := value["address"]; ok { // an upstream
			return fmt.Sprintf("%s=%s", cell(address), map[bool]string{true: "healthy", false: "down"}[value["healthy"] == true])
		}
		return "..."
	}
	if text := shown(fmt.Sprint(value)); text != "" {
		return text
	}
	return "-"
}

// given adds to a body what flags say, by the names of members. A flag that is not set
// adds nothing.
func given(cmd *cobra.Command, body object, members map[string]string) object {
	for name, member := range members {
		f := cmd.Flags().Lookup(name)
		switch {
		case !f.Changed:
		case f.Value.Type() == "bool":
			body[member] = f.Value.String() == "true"
		default:
			body[member] = f.Value.String()
		}
	}
	return body
}

// password reads a password from the file that a flag names. It never stands on the
// command line, which others can see.
func password(cmd *cobra.Command, name string) (string, error) {
	text, err := input(cmd, flag(cmd, name))
	if err != nil {
		return "", err
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return "", errors.New("the password must be one line")
	}
	return line, nil
}
