package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// transport adds a token to every request, and notes which node has answered and what.
type transport struct {
	token                string
	node, status, reason string
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+t.token)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	t.node, t.status, t.reason = res.Header.Get("X-Node"), res.Status, ""
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	var refusal struct {
		Error struct{ Data struct{ Reason string } }
	}
	if err := json.Unmarshal(body, &refusal); err != nil {
		return nil, fmt.Errorf("%s: %s", res.Status, body)
	}
	t.reason = refusal.Error.Data.Reason
	return nil, errRefused
}

var errRefused = errors.New("refused")

// visit is a client of someone, through the balancer.
type visit struct {
	who       identity
	session   *mcp.ClientSession
	transport *transport
}

func (c *cluster) visit(ctx context.Context, who identity) (*visit, error) {
	v := &visit{who: who, transport: &transport{token: who.token}}
	client := mcp.NewClient(&mcp.Implementation{Name: "cluster", Version: "1.0.0"}, nil)
	var err error
	v.session, err = client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: c.url + "/mcp", HTTPClient: &http.Client{Transport: v.transport}, MaxRetries: -1,
	}, nil)
	return v, err
}

// call reads a temperature, and returns which node has answered, and what.
func (v *visit) call(ctx context.Context) (node, answer string, err error) {
	res, err := v.session.CallTool(ctx, &mcp.CallToolParams{Name: "temperature_read", Arguments: map[string]any{"room": "kitchen"}})
	t := v.transport
	switch {
	case t.reason != "":
		return t.node, fmt.Sprintf("refused  %s, %s", t.status, t.reason), nil
	case err != nil:
		return "", "", err
	case res.IsError || len(res.Content) == 0:
		return "", "", fmt.Errorf("the tool answered %+v", res)
	}
	return t.node, "allowed  " + res.Content[0].(*mcp.TextContent).Text, nil
}

// show has both nodes answer once, and writes down what they say: one line each, in the
// order of the nodes.
func (v *visit) show(ctx context.Context, out io.Writer, nodes ...*node) error {
	answers := map[string]string{}
	for tries := 0; len(answers) < len(nodes); tries++ {
		if tries == 20 {
			return fmt.Errorf("%s: not all nodes answer, only %v", v.who.name, answers)
		}
		node, answer, err := v.call(ctx)
		if err != nil {
			return err
		}
		answers[node] = answer
	}
	for _, n := range nodes {
		fmt.Fprintf(out, "  %s  node %s  %s\n", v.who.name, n.name, answers[n.name])
	}
	return nil
}

// transcript shows what the cluster does.
func (c *cluster) transcript(ctx context.Context, out io.Writer, ids []identity) error {
	one, two := c.nodes[0], c.nodes[1]
	var visits []*visit
	fmt.Fprintln(out, "\n== Through the balancer")
	for _, id := range ids {
		v, err := c.visit(ctx, id)
		if err != nil {
			return err
		}
		defer v.session.Close()
		visits = append(visits, v)
		if err := v.show(ctx, out, one, two); err != nil {
			return err
		}
	}
	ana, rob := visits[0], visits[1]

	fmt.Fprintln(out, "\n== Ana's token is revoked on node one")
	line, err := one.revoke(ctx, ana.who.id)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "  $", line)
	began := time.Now()
	took, err := ana.refusedBy(ctx, two, began)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  refused by node two no later than %s afterwards\n", took.Round(time.Millisecond))
	for _, v := range visits {
		if err := v.show(ctx, out, one, two); err != nil {
			return err
		}
	}

	fmt.Fprintln(out, "\n== Node two is killed, and Rob's token revoked meanwhile")
	if err := two.kill(); err != nil {
		return err
	}
	if err := rob.show(ctx, out, one); err != nil {
		return err
	}
	if line, err = one.revoke(ctx, rob.who.id); err != nil {
		return err
	}
	fmt.Fprintln(out, "  $", line)
	fmt.Fprintln(out, "\n== Node two is started again")
	if err := two.start(ctx); err != nil {
		return err
	}
	if err := c.balanced(ctx, rob, two); err != nil {
		return err
	}
	return rob.show(ctx, out, one, two)
}

// refusedBy calls until a node refuses, which must be soon.
func (v *visit) refusedBy(ctx context.Context, n *node, began time.Time) (time.Duration, error) {
	for {
		node, answer, err := v.call(ctx)
		switch {
		case err != nil:
			return 0, err
		case node == n.name && v.transport.reason != "":
			return time.Since(began), nil
		case time.Since(began) > 10*time.Second:
			return 0, fmt.Errorf("node %s answers a revoked token with %s", node, answer)
		}
	}
}

// balanced waits until the balancer takes a node that was down for up again.
func (c *cluster) balanced(ctx context.Context, v *visit, n *node) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		node, answer, err := v.call(ctx)
		if err != nil {
			return err
		}
		if v.transport.reason == "" {
			return fmt.Errorf("node %s answers a revoked token with %s", node, answer)
		}
		if node == n.name {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
