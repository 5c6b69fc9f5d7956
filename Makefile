# mneme: two commands matter, `make run` and `make test`.
# Everything else is here so that a check can be repeated by hand.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

export CGO_ENABLED := 0
export GOTOOLCHAIN := local

GO          ?= go
FUZZTIME    ?= 6s
SOAK        ?= 1000
TOOLS       := $(CURDIR)/.cache/bin
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null)
DATE    := $(shell git show -s --format=%cI HEAD 2>/dev/null)
CLI     := mneme/internal/cli
LDFLAGS := -s -w -X $(CLI).version=$(VERSION) -X $(CLI).commit=$(COMMIT) -X $(CLI).date=$(DATE)

RACED      := kv engine trace lineage turnstile waiting schedule team store api token chat sample vfs hub
INVARIANTS := kv engine
NOASM      := tensor team model
COVERED    := kv engine store
LEAST      := 90

.PHONY: build run test check bench clients clean
.PHONY: format lint race invariants noasm cover fuzz-short generated

build: ## bin/mneme, static
	$(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/mneme ./cmd/mneme

run: build ## serve the default model; ARGS are flags of `mneme serve`
	exec bin/mneme serve $(ARGS)

test: ## every proof that fits
	$(GO) vet ./...
	$(GO) test -p 2 ./...

check: format lint generated invariants noasm cover race fuzz-short ## what takes longer

format:
	@unformatted=$$(gofmt -l cmd internal *.go); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi

lint: $(TOOLS)/staticcheck
	$(GO) vet ./...
	$(TOOLS)/staticcheck ./...

$(TOOLS)/staticcheck:
	GOBIN=$(TOOLS) $(GO) install $(STATICCHECK)

race: ## the race detector is the one thing that needs a C compiler: .ci/cc finds or fetches one
	@.ci/cc --version >/dev/null
	CGO_ENABLED=1 CC=$(CURDIR)/.ci/cc $(GO) test -race -short -p 2 $(RACED:%=./internal/%/...)

invariants:
	$(GO) test -tags invariants -p 2 $(INVARIANTS:%=./internal/%/...)

noasm:
	$(GO) test -tags noasm -p 2 $(NOASM:%=./internal/%/...)

cover: ## what a room's tests, with those of its children, run of it: at least $(LEAST) % of the rooms that may not be wrong
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; low=; for room in $(COVERED); do \
	  said=$$($(GO) test -coverprofile $$dir/profile -coverpkg ./internal/$$room/... ./internal/$$room/... 2>&1) || { echo "$$said"; exit 1; }; \
	  share=$$($(GO) tool cover -func $$dir/profile | awk '/^total:/ { sub("%", "", $$3); print $$3 }'); \
	  printf '%-14s %6s %%\n' "$$room" "$$share"; \
	  awk -v share="$$share" 'BEGIN { exit !(share >= $(LEAST)) }' || low="$$low $$room"; \
	done; \
	if [ -n "$$low" ]; then echo "below $(LEAST) %:$$low"; exit 1; fi

# Now and then `go test -fuzz` fails with "context deadline exceeded" because its
# time is over while a worker runs: no input failed, and the target runs again.
fuzz-short: ## every fuzz target for $(FUZZTIME)
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	fuzz() { $(GO) test -run '^$$' -fuzz "^$$2\$$" -fuzztime $(FUZZTIME) -parallel 2 "$$1" 2>&1 | tee "$$log"; }; \
	for package in $$($(GO) list ./...); do \
	  listed=$$($(GO) test -list '^Fuzz' $$package) || { echo "$$listed"; exit 1; }; \
	  for target in $$(grep '^Fuzz' <<<"$$listed" || true); do \
	    echo "fuzz $$package $$target"; \
	    fuzz $$package $$target || { grep -q 'context deadline exceeded' "$$log" && ! grep -q 'Failing input' "$$log" && fuzz $$package $$target; } || exit 1; \
	  done; \
	done

generated: ## what generators wrote is what they write: in a copy, then compared
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	cp -r go.mod go.sum internal "$$fresh"; \
	(cd "$$fresh" && $(GO) generate ./...); \
	diff -r internal "$$fresh/internal" || { echo "generated files are not current: go generate ./..."; exit 1; }; \
	echo "generated files are current"

cost: ## what the pool's mutex costs: the same benchmark with and without it, in turn
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(GO) test -c -o $$dir/with ./internal/kv; $(GO) test -c -tags nolock -o $$dir/without ./internal/kv; \
	for i in $$(seq 20); do for kind in with without; do \
	  $$dir/$$kind -test.run '^$$' -test.bench AllocateFree32 -test.benchtime 100ms | awk -v k=$$kind '/ns\/op/ {print k, $$3}'; \
	done; done >$$dir/runs; \
	for kind in with without; do awk -v k=$$kind '$$1 == k {print $$2}' $$dir/runs | sort -n | sed -n 10p >$$dir/median-$$kind; done; \
	awk -v a=$$(cat $$dir/median-with) -v b=$$(cat $$dir/median-without) \
	  'BEGIN {printf "Allocate and Free of 32 blocks: %s ns with the mutex, %s without, ratio %.3f (bound 1.10)\n", a, b, a/b; exit a/b > 1.10}'

clients: build ## SDKs, agents' clients, schemathesis and lm-eval against a running server; needs node and pip
	cd clients/sdk && $(GO) vet ./... && MNEME_BIN=$(CURDIR)/bin/mneme $(GO) test -count=1 ./...
	clients/run.sh && clients/schemathesis.sh && clients/lmeval.sh

bench: build ## tables: first token, tokens per second, common beginnings
	bin/mneme bench --spawn $(ARGS)

soak: ## the long proofs, SOAK times over; what they print goes into docs/EVIDENCE.md
	@{ printf '\n## %s, %s, %s cores, SOAK=%s\n```\n' "$$(date -u +%F)" "$$(git describe --tags --always --dirty)" "$$(nproc)" "$(SOAK)"; \
	  CGO_ENABLED=1 CC=$(CURDIR)/.ci/cc $(GO) test -race -count=$$(( $(SOAK) < 100 ? $(SOAK) : 100 )) -run TestConcurrentAllocation ./internal/kv; \
	  $(GO) test -tags soak -count=$(SOAK) -timeout 0 ./internal/kv ./internal/store/...; \
	  $(GO) test -tags soak -count=$(SOAK) -timeout 0 ./internal/engine; \
	  $(GO) test -tags soak -count=1 -v -run 'RSS|NoKV|Leak|ManyAgents' ./internal/engine | grep -v '^=== '; \
	  $(GO) test -tags soak -count=1 -timeout 0 -v ./internal/proof | grep -v '^=== '; \
	  $(GO) test -tags soak -count=1 -timeout 0 -v -run 'Kill|TimesTell' ./internal/cli | grep -v '^=== '; \
	  $(GO) test -tags soak -count=1 -timeout 0 -v -run Mutated ./internal/model | grep -v '^=== '; \
	  $(GO) test -tags soak -count=1 -timeout 0 -v ./internal/bench/perplexity | grep -v '^=== '; \
	  $(MAKE) -s cost; \
	  printf '```\n'; } | tee -a docs/EVIDENCE.md

clean:
	rm -rf bin .cache
