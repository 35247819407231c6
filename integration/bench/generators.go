package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// chooseGenerator returns a load generator and its name. Without a wish it is wrk, which
// it installs with apt-get when it may.
func chooseGenerator(ctx context.Context, wish string) (generator, string, error) {
	if wish == "go" {
		return goLoad, "generator in Go", nil
	}
	if wish != "" && wish != "wrk" {
		return nil, "", fmt.Errorf("-generator %s: want wrk or go", wish)
	}
	if _, err := exec.LookPath("wrk"); err != nil && os.Geteuid() == 0 {
		// Where apt-get fails, the look-up below says so.
		_ = exec.CommandContext(ctx, "sh", "-c", "apt-get update -qq && apt-get install -y -qq wrk").Run()
	}
	if _, err := exec.LookPath("wrk"); err != nil {
		if wish == "wrk" {
			return nil, "", err
		}
		return goLoad, "generator in Go (wrk is not to be had)", nil
	}
	return wrkLoad, "wrk", nil
}

// script makes wrk send what [load] says. Lua counts exactly up to 2^53.
const script = `
local threads = 0
function setup(thread)
	thread:set("thread", threads)
	threads = threads + 1
end

local n = 0
function request()
	n = n + 1
	if #sessions > 0 then
		headers["Mcp-Session-Id"] = sessions[n %% #sessions + 1]
	end
	local id = string.format("%%.0f", first + thread * 1e9 + n)
	return wrk.format("POST", nil, headers, head .. id .. tail)
end

function done(summary, latency, requests)
	local e = summary.errors
	io.write(string.format("RESULT %%d %%d %%d %%d %%d %%d\n", summary.requests, summary.duration,
		latency:percentile(50), latency:percentile(99), e.status, e.connect + e.read + e.write + e.timeout))
end

first = %d
head, tail = [==[%s]==], [==[%s]==]
sessions = { %s }
headers = { %s }
`

func wrkLoad(ctx context.Context, l load) (measurement, error) {
	sessions := make([]string, len(l.sessions))
	for i, s := range l.sessions {
		sessions[i] = strconv.Quote(s)
	}
	headers := make([]string, 0, len(l.headers))
	for name, value := range l.headers {
		headers = append(headers, fmt.Sprintf("[%q] = %q", name, value))
	}
	file := filepath.Join(l.dir, "load.lua")
	lua := fmt.Sprintf(script, l.firstID+100, callHead, callTail, strings.Join(sessions, ", "), strings.Join(headers, ", "))
	if err := os.WriteFile(file, []byte(lua), 0o600); err != nil {
		return measurement{}, err
	}
	// wrk knows whole seconds only.
	seconds := int(max(l.duration, time.Second).Round(time.Second).Seconds())
	out, err := exec.CommandContext(ctx, "wrk", "-t2", "-c", strconv.Itoa(connections), "-d", strconv.Itoa(seconds)+"s", "-s", file, l.url).CombinedOutput()
	if err != nil {
		return measurement{}, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	var m measurement
	var micros, p50, p99, status, broken int64
	_, result, _ := bytes.Cut(out, []byte("RESULT "))
	if _, err := fmt.Sscan(string(result), &m.requests, &micros, &p50, &p99, &status, &broken); err != nil || m.requests == 0 {
		return measurement{}, fmt.Errorf("wrk reported no requests: %w\n%s", err, out)
	}
	if status+broken > 0 {
		return measurement{}, fmt.Errorf("of %d requests %d had a status other than 2xx or 3xx, %d connections broke", m.requests, status, broken)
	}
	m.perSecond = float64(m.requests) / (float64(micros) / 1e6)
	m.p50, m.p99 = time.Duration(p50)*time.Microsecond, time.Duration(p99)*time.Microsecond
	return m, nil
}

// goLoad does the same with one goroutine to a connection, and checks the id of every
// answer. It costs more CPU than wrk, so its figures are lower and its ratios flatter.
func goLoad(ctx context.Context, l load) (measurement, error) {
	start := time.Now()
	took := make([][]time.Duration, connections)
	errs := make([]error, connections)
	var all sync.WaitGroup
	for i := range connections {
		all.Go(func() {
			took[i], errs[i] = l.connection(ctx, l.firstID+100+int64(i)*1e8, start.Add(l.duration))
		})
	}
	all.Wait()
	elapsed := time.Since(start)
	times := slices.Concat(took...)
	if err := errors.Join(errs...); err != nil || len(times) == 0 {
		return measurement{}, errors.Join(err, fmt.Errorf("%d requests were answered", len(times)))
	}
	slices.Sort(times)
	return measurement{
		requests:  int64(len(times)),
		perSecond: float64(len(times)) / elapsed.Seconds(),
		p50:       times[len(times)/2],
		p99:       times[len(times)*99/100],
	}, nil
}

// connection sends calls one after the other until a time and returns how long each took.
func (l load) connection(ctx context.Context, id int64, until time.Time) ([]time.Duration, error) {
	u, err := url.Parse(l.url)
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	var head strings.Builder
	head.WriteString("POST " + u.Path + " HTTP/1.1\r\nHost: " + u.Host + "\r\n")
	for name, value := range l.headers {
		head.WriteString(name + ": " + value + "\r\n")
	}
	var took []time.Duration
	answers := bufio.NewReader(conn)
	for n := 0; time.Now().Before(until); n++ {
		id++
		message := callHead + strconv.FormatInt(id, 10) + callTail
		request := head.String()
		if len(l.sessions) > 0 {
			request += "Mcp-Session-Id: " + l.sessions[n%len(l.sessions)] + "\r\n"
		}
		request += "Content-Length: " + strconv.Itoa(len(message)) + "\r\n\r\n" + message

		sent := time.Now()
		if _, err := io.WriteString(conn, request); err != nil {
			return nil, err
		}
		res, err := http.ReadResponse(answers, nil)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(sent))
		if res.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"id":`+strconv.FormatInt(id, 10)+`,`)) {
			return nil, fmt.Errorf("call %d was answered with %s: %s", id, res.Status, body)
		}
	}
	return took, nil
}
