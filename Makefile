# Everything a developer does here. Needed: Go; for `test` and `conformance` also Node.js
# with npm. What else is missing is installed, with apt-get where that is possible.

GOLANGCI_LINT = go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK   = go run golang.org/x/vuln/cmd/govulncheck@v1.8.0

LISTEN   ?= 127.0.0.1:8808
FUZZTIME ?= 30s
DIFFTIME ?= 10m

.PHONY: run cluster build test bench conformance lint vuln fuzz differential reload clean compiler python redis-server chromium

# The quickstart: a gateway with two MCP servers and two tokens, up until Ctrl-C.
# Built first and not `go run`, so that SIGTERM reaches it too.
run:
	@go build -buildvcs=false -o .build/bin/quickstart ./examples/quickstart
	@.build/bin/quickstart -listen $(LISTEN)

# Two nodes that share a Redis, behind a load balancer, up until Ctrl-C.
cluster: redis-server
	@go build -buildvcs=false -o .build/bin/cluster ./examples/cluster
	@.build/bin/cluster

# Caddy with the plugin, as ./caddy.
build:
	go build -o caddy ./xcaddy

# Run anew each time: the go command does not see that a test builds and starts Caddy.
test: compiler python redis-server chromium
	go vet ./...
	@files=$$(find . -name '*.go' -not -path './.build/*' -not -path '*/node_modules/*' -exec gofmt -l {} +); \
		if [ -n "$$files" ]; then echo "not formatted, run gofmt -w on: $$files"; exit 1; fi
	go test -race -count=1 -timeout 30m ./...
	@$(MAKE) --no-print-directory reload

# The race detector needs a C compiler.
compiler:
	@command -v "$$(go env CC)" >/dev/null || { apt-get update -qq && apt-get install -y -qq gcc libc6-dev; }

# One of the readers that messages are read with, to compare.
python:
	@command -v python3 >/dev/null || { apt-get update -qq && apt-get install -y -qq python3; }

# Tests of the store start their own.
redis-server:
	@command -v redis-server >/dev/null || { apt-get update -qq && apt-get install -y -qq redis-server; }

# Tests of pages open them in it.
chromium:
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

# What security costs: ends with one line "secured/plain: R".
bench: redis-server
	@go run ./integration/bench

# The official MCP conformance suite, directly and through the gateway.
conformance:
	@go run ./integration/conformance

lint:
	$(GOLANGCI_LINT) run

# Known vulnerabilities in what is called. VULNDB names another database than the public
# one, for a machine that cannot reach it, as file:///folder/of/osv/files.
vuln:
	$(GOVULNCHECK) $(if $(VULNDB),-db $(VULNDB)) ./...

# A thousand reloads under load, without the race detector, which make test has for the
# first hundred.
reload:
	go test -count=1 -v -run UnderLoad ./integration/reload -args -reloads 1000

# Every fuzz target, FUZZTIME each.
fuzz: python
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "== $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

# Bodies near valid ones, given to the readers of other languages and SDKs, for DIFFTIME.
# make test does so for a minute. SEED repeats a run.
differential: python
	go test -count=1 -v -timeout 0 -run '^Test' ./integration/differential -args -for $(DIFFTIME) -seed $(or $(SEED),0)

clean:
	rm -rf .build caddy
