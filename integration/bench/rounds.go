package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// workload is a way to call tools. Both are protocol 2025-11-25.
type workload struct {
	title  string
	server string // name at the gateway
	path   string // at the upstream and the plain proxy
	open   int    // sessions to open and use in turn
}

var workloads = []workload{
	{"tools/call in 16 sessions", "sessions", "/sessions/mcp", 16},
	{"tools/call without a session", "stateless", "/stateless/mcp", 0},
}

type target struct{ name, url string }

// load is what a generator is to send.
type load struct {
	url      string
	headers  map[string]string
	sessions []string // ids to use in turn; may be empty
	firstID  int64    // JSON-RPC ids count up from here
	duration time.Duration
	dir      string // for the generator's files
}

// The tool call, before and after its id.
const (
	callHead = `{"jsonrpc":"2.0","id":`
	callTail = `,"method":"tools/call","params":{"name":"query_orders","arguments":{"customer":"c-4711","from":"2026-01-01","to":"2026-03-31","limit":20}}}`
)

// measurement is what a generator saw, and Caddy's CPU time meanwhile.
type measurement struct {
	requests  int64
	perSecond float64
	p50, p99  time.Duration
	cpu       time.Duration // per request; 0 where it is not known
}

// generator puts load on a target. It fails if any answer had another status than 2xx
// or any connection broke.
type generator func(context.Context, load) (measurement, error)

type bench struct {
	opts     options
	generate generator
	dir      string
	up       *upstream
	token    string
	cpu      func() (time.Duration, bool)
	nextID   int64
}

// workload runs all rounds of one workload, prints its table and returns the median over
// the rounds of secured/plain.
func (b *bench) workload(ctx context.Context, out io.Writer, w workload, targets []target) (float64, error) {
	loads := make([]load, len(targets))
	for i, t := range targets {
		loads[i] = load{url: t.url, dir: b.dir, headers: map[string]string{
			"Authorization":        "Bearer " + b.token,
			"Content-Type":         "application/json",
			"Accept":               "application/json, text/event-stream",
			"MCP-Protocol-Version": "2025-11-25",
		}}
		for range w.open {
			id, err := b.openSession(ctx, loads[i])
			if err != nil {
				return 0, fmt.Errorf("%s: opening a session: %w", t.name, err)
			}
			loads[i].sessions = append(loads[i].sessions, id)
		}
		if _, err := b.measure(ctx, loads[i], min(b.opts.duration, 2*time.Second)); err != nil { // warm-up
			return 0, fmt.Errorf("%s: %w", t.name, err)
		}
	}

	results := make([][]measurement, len(targets))
	for round := range b.opts.rounds {
		for i := range targets {
			i := (i + round) % len(targets)
			m, err := b.measure(ctx, loads[i], b.opts.duration)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", targets[i].name, err)
			}
			results[i] = append(results[i], m)
		}
	}

	fmt.Fprintf(out, "\n%s\n", w.title)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "target\trequests/s\tp50 ms\tp99 ms\tCaddy CPU us/request\tx plain\tlowest, highest round\t")
	secured := 0.0
	for i, t := range targets {
		var ratios []float64
		for round, m := range results[i] {
			ratios = append(ratios, m.perSecond/results[1][round].perSecond)
		}
		cpu := "-"
		if us := median(results[i], func(m measurement) float64 { return float64(m.cpu.Nanoseconds()) / 1e3 }); us > 0 && t.name != "direct" {
			cpu = fmt.Sprintf("%.0f", us)
		}
		secured = median(ratios, func(r float64) float64 { return r }) // the last target's stays
		fmt.Fprintf(table, "%s\t%.0f\t%.2f\t%.2f\t%s\t%.2f\t%.2f, %.2f\t\n", t.name,
			median(results[i], func(m measurement) float64 { return m.perSecond }),
			median(results[i], func(m measurement) float64 { return m.p50.Seconds() * 1e3 }),
			median(results[i], func(m measurement) float64 { return m.p99.Seconds() * 1e3 }),
			cpu, secured, slices.Min(ratios), slices.Max(ratios))
	}
	return secured, table.Flush()
}

// measure puts load on one target once and checks that nothing but tool results came
// back: sample answers before and after, and every request counted by the upstream.
func (b *bench) measure(ctx context.Context, l load, duration time.Duration) (measurement, error) {
	l.duration, l.firstID = duration, b.nextID
	b.nextID += 1e10 // more than any run can use
	if err := b.sample(ctx, l, 10); err != nil {
		return measurement{}, err
	}
	answered := b.up.answered.Load()
	before, known := b.cpu()
	m, err := b.generate(ctx, l)
	if err != nil {
		return measurement{}, err
	}
	after, _ := b.cpu()
	if known {
		m.cpu = (after - before) / time.Duration(m.requests)
	}
	if n := b.up.answered.Load() - answered; n < m.requests {
		return measurement{}, fmt.Errorf("%d answers, but only %d calls reached the MCP server", m.requests, n)
	}
	l.firstID += 9e9
	return m, b.sample(ctx, l, 10)
}

// sample makes n calls and checks id and text of the answers.
func (b *bench) sample(ctx context.Context, l load, n int64) error {
	for i := range n {
		session := ""
		if len(l.sessions) > 0 {
			session = l.sessions[int(i)%len(l.sessions)]
		}
		id := l.firstID + i
		res, body, err := post(ctx, l, session, callHead+strconv.FormatInt(id, 10)+callTail)
		if err != nil {
			return err
		}
		var answer struct {
			ID     int64 `json:"id"`
			Result struct {
				Content []struct{ Text string } `json:"content"`
			} `json:"result"`
		}
		if err := json.Unmarshal(body, &answer); err != nil || answer.ID != id || len(answer.Result.Content) != 1 || answer.Result.Content[0].Text != answerText {
			return fmt.Errorf("call %d was answered with %s: %s", id, res.Status, body)
		}
	}
	return nil
}

func (b *bench) openSession(ctx context.Context, l load) (string, error) {
	res, body, err := post(ctx, l, "", `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`)
	if err != nil {
		return "", err
	}
	id := res.Header.Get("Mcp-Session-Id")
	if res.StatusCode != http.StatusOK || id == "" {
		return "", fmt.Errorf("initialize was answered without a session: %s: %s", res.Status, body)
	}
	res, body, err = post(ctx, l, id, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	if err == nil && res.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("notifications/initialized was answered with %s: %s", res.Status, body)
	}
	return id, err
}

func post(ctx context.Context, l load, session, message string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, strings.NewReader(message))
	if err != nil {
		return nil, nil, err
	}
	for name, value := range l.headers {
		req.Header.Set(name, value)
	}
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, body, err
}

// median of a value over a list, which has at least one element.
func median[T any](list []T, value func(T) float64) float64 {
	values := make([]float64, len(list))
	for i, v := range list {
		values[i] = value(v)
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}

// cpuTime is the user and system time of a process so far, where /proc tells it.
func cpuTime(pid int) (time.Duration, bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// The fields after the parenthesized name; utime and stime are 14 and 15 of all.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0, false
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	return time.Duration(user+system) * tick, err1 == nil && err2 == nil
}
