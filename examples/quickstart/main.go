// Command quickstart shows the MCP gateway at work on one machine, with nothing but Go:
//
//	go run ./examples/quickstart
//
// It builds Caddy with the plugin, starts two example MCP servers and the gateway in
// front of them (the Caddyfile beside this file), makes a signing key and two tokens, lets
// the official Go SDK client call tools with each, prints what happened and what to paste
// into an MCP client, and stays up until Ctrl-C. What it makes lies in .build/quickstart
// and is used again by the next start.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caddymcp/caddy-mcp-gateway/internal/launch"
)

// options are what the command line says.
type options struct {
	listen string // host:port of the gateway
	dir    string // where keys, tokens and logs are kept
	once   bool   // stop after the transcript
}

func main() {
	var opts options
	flag.StringVar(&opts.listen, "listen", "127.0.0.1:8808", "address of the gateway, host:port")
	flag.StringVar(&opts.dir, "dir", "", "folder for keys, tokens and logs (default .build/quickstart in the checkout)")
	flag.BoolVar(&opts.once, "once", false, "stop after the transcript")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, opts, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run does everything; when it returns, all it started has ended. Being told to stop
// through ctx is no error.
func run(ctx context.Context, opts options, out io.Writer) error {
	host, port, err := net.SplitHostPort(opts.listen)
	if err != nil {
		return fmt.Errorf("-listen %s: want host:port: %w", opts.listen, err)
	}
	if err := checkFree(opts.listen); err != nil {
		return err
	}
	root, err := launch.Root()
	if err != nil {
		return err
	}
	if opts.dir == "" {
		opts.dir = filepath.Join(root, ".build", "quickstart")
	}
	if err := os.MkdirAll(opts.dir, 0o700); err != nil {
		return err
	}
	publicURL := "http://" + opts.listen
	ids, keyFile, err := credentials(opts.dir, publicURL)
	if err != nil {
		return err
	}

	var group launch.Group
	defer group.Stop()
	fmt.Fprintln(out, "Building Caddy with the MCP gateway and two example MCP servers (minutes the first time, then seconds) ...")
	env := []string{"QUICKSTART_HOST=" + host, "QUICKSTART_PORT=" + port, "QUICKSTART_KEY=" + keyFile}
	for name, variable := range map[string]string{"notes": "QUICKSTART_NOTES", "thermostat": "QUICKSTART_THERMOSTAT"} {
		url, err := startServer(ctx, &group, root, opts.dir, name)
		if err != nil {
			return stopped(ctx, err)
		}
		env = append(env, variable+"="+url)
	}
	caddy, err := group.StartCaddy(ctx, root, opts.dir, filepath.Join(root, "examples", "quickstart", "Caddyfile"), env...)
	if err != nil {
		return stopped(ctx, err)
	}
	soon, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := caddy.WaitReady(soon, publicURL+"/ready"); err != nil {
		return stopped(ctx, err)
	}

	if err := transcript(soon, out, publicURL, ids); err != nil {
		return stopped(ctx, err)
	}
	if err := paste(out, publicURL, opts.dir, ids); err != nil || opts.once {
		return err
	}
	fmt.Fprintf(out, "The gateway is up at %s. Ctrl-C stops it.\n", publicURL)
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "Stopping.")
		return nil
	case child := <-group.Ended():
		return stopped(ctx, child.Failure())
	}
}

// stopped turns the error of an interrupted step into none.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// checkFree says in time, and in words that help, that the gateway's address is in use.
func checkFree(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("another program listens on %s: stop it, or choose another address with -listen HOST:PORT (make run LISTEN=HOST:PORT)", addr)
	}
	if err != nil {
		return fmt.Errorf("cannot listen on %s, choose another address with -listen HOST:PORT: %w", addr, err)
	}
	return ln.Close()
}

// startServer builds and starts one of the example MCP servers on a free port and returns
// the URL of its MCP endpoint.
func startServer(ctx context.Context, group *launch.Group, root, dir, name string) (string, error) {
	bin, err := launch.Build(ctx, root, "./examples/servers/"+name)
	if err != nil {
		return "", err
	}
	addr, err := launch.FreeAddr()
	if err != nil {
		return "", err
	}
	server, err := group.Start(name, filepath.Join(dir, name+".log"), exec.Command(bin, "-listen", addr))
	if err != nil {
		return "", err
	}
	waiting, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return "http://" + addr + "/mcp", server.WaitListening(waiting, addr)
}
