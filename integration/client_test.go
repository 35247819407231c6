package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
)

// visit is what a client is asked to do: to go through the scenario at a URL.
type visit struct {
	URL     string `json:"url"`
	Token   string `json:"token,omitempty"`
	Tag     string `json:"tag"`
	Legacy  bool   `json:"legacy"`  // the client must not try 2026-07-28
	Asks    bool   `json:"asks"`    // the server can ask the client
	Follows bool   `json:"follows"` // the client can follow changes
	Resumes bool   `json:"resumes"` // broken streams can be resumed

	// Headers are sent with every request.
	Headers map[string]string `json:"headers"`

	// OAuth has the TypeScript clients fetch a token by client_credentials;
	// handler does the same for the Go client.
	OAuth   *clientCredentials `json:"oauth,omitempty"`
	handler auth.OAuthHandler
}

type clientCredentials struct {
	ID     string `json:"clientId"`
	Secret string `json:"clientSecret"`
	Issuer string `json:"expectedIssuer"`
}

// outcome is the value of one step of the scenario as JSON, or its error.
type outcome struct {
	Value string
	Err   *stepError
}

type stepError struct {
	Code    any    `json:"code"` // a JSON-RPC or HTTP code, or a name of the SDK
	Message string `json:"message"`
}

func (o outcome) String() string {
	if o.Err != nil {
		return fmt.Sprintf("error %v: %s", o.Err.Code, o.Err.Message)
	}
	return o.Value
}

// clients run the scenario and return the outcome of each step.
var clients = map[string]func(context.Context, *testing.T, visit) map[string]outcome{
	"go":  goScenario,
	"ts1": tsScenario("client-ts1.mjs"),
	"ts2": tsScenario("client-ts2.mjs"),
}

func tsScenario(script string) func(context.Context, *testing.T, visit) map[string]outcome {
	return func(ctx context.Context, t *testing.T, v visit) map[string]outcome {
		outcomes := make(map[string]outcome)
		p, err := startNode(ctx, script, "CLIENT_CONFIG", v, func(line []byte) {
			var step struct {
				Step  string
				Value json.RawMessage
				Error *stepError
			}
			if err := json.Unmarshal(line, &step); err != nil || step.Step == "" {
				t.Errorf("%s reports %s", script, line)
				return
			}
			var value any
			_ = json.Unmarshal(step.Value, &value) // a step that failed has none
			outcomes[step.Step] = outcome{Value: canonical(value), Err: step.Error}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.wait(); err != nil {
			t.Error(err)
		}
		return outcomes
	}
}

// canonical is JSON as encoding/json writes it, with sorted keys.
func canonical(value any) string {
	out, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// RoundTrip sends a request of the Go client with the headers of the visit.
func (v visit) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, value := range v.Headers {
		r.Header.Set(name, value)
	}
	if v.Token != "" {
		r.Header.Set("Authorization", "Bearer "+v.Token)
	}
	return tlsTransport.RoundTrip(r)
}

// arrivals remembers what arrived, and lets a step wait for it.
type arrivals struct {
	mu      sync.Mutex
	seen    map[string]bool
	changed chan struct{}
}

func newArrivals() *arrivals {
	return &arrivals{seen: make(map[string]bool), changed: make(chan struct{})}
}

func (a *arrivals) add(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen[name] = true
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *arrivals) wait(ctx context.Context, names ...string) ([]string, error) {
	for {
		a.mu.Lock()
		var missing []string
		for _, name := range names {
			if !a.seen[name] {
				missing = append(missing, name)
			}
		}
		changed := a.changed
		have := maps.Clone(a.seen)
		a.mu.Unlock()
		if len(missing) == 0 {
			return names, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("did not arrive: %s (but %v)", strings.Join(missing, ", "), have)
		}
	}
}
