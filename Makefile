# Every command of the project; `make help` lists them. CI runs `make test` and nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The suites share two cores and one target directory: running them side by side gains nothing and muddles the output.
.NOTPARALLEL:

ROOT := $(CURDIR)
export CARGO_TARGET_DIR ?= $(ROOT)/target
# The binary that the suites in Node start.
export FIDIBUS_BIN ?= $(CARGO_TARGET_DIR)/debug/fidibus
export CARGO_TERM_COLOR ?= auto

# Node 22 and cargo-deny as scripts/tools.sh installs them, before those of the machine.
export PATH := $(ROOT)/.tools/node22/bin:$(ROOT)/.tools/bin:$(PATH)
TOOLS := $(ROOT)/scripts/tools.sh
# `cargo nextest` where it is installed: it runs test binaries side by side. Doc tests always need `cargo test`.
NEXTEST := $(shell command -v cargo-nextest 2>/dev/null)
CARGO_TEST := $(if $(NEXTEST),cargo nextest run --no-tests=pass --no-fail-fast,cargo test --all-targets --no-fail-fast)

.PHONY: help
help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

##### Run

.PHONY: run
run: ## Build the server and start it with no set-up; it prints its address
	cargo run --release --bin fidibus

##### Check

.PHONY: test
test: lint test-rust golden-check test-provider test-auth test-loss test-deploy test-c test-node test-playground ## Everything that CI checks; installs what it needs

.PHONY: lint
lint: fmt-check clippy deny ## Formatting, clippy without warnings, licences and banned crates

.PHONY: fmt
fmt: ## Format the Rust code
	cargo fmt --all

.PHONY: fmt-check
fmt-check:
	cargo fmt --all --check

.PHONY: clippy
clippy:
	cargo clippy --workspace --all-targets --all-features --quiet -- -D warnings

.PHONY: deny
deny: ## Licences, banned crates and their sources, by deny.toml
	@$(TOOLS) deny
	cargo deny --log-level error --all-features check licenses bans sources

.PHONY: test-rust
test-rust: ## Unit, integration and doc tests of the workspace, some against yjs in Node
	@$(TOOLS) node22 postgres npm_ci core/tests/yjs
	$(CARGO_TEST) --workspace --all-features
	cargo test --workspace --all-features --doc --quiet

.PHONY: golden
golden: ## Record the golden frames again, from the npm packages
	@$(TOOLS) node22 npm_ci core/tests/golden
	cd core/tests/golden && npm run --silent generate

.PHONY: golden-check
golden-check: # The npm packages still write the frames that we compare with
	@$(TOOLS) node22 npm_ci core/tests/golden
	cd core/tests/golden && npm run --silent check

.PHONY: build
build: ## The debug binary that the suites in Node start
	cargo build --quiet --workspace --all-features --bin fidibus --bin loss

.PHONY: test-provider
test-provider: build ## The real providers from npm against the real binary
	@$(TOOLS) node22 npm_ci server/tests/provider
	cd server/tests/provider && npm test --silent

.PHONY: test-auth
test-auth: build ## Better Auth, both versions and adapters, on PostgreSQL, SQLite and Redis against the real binary
	@$(TOOLS) node22 postgres redis npm_ci server/tests/provider npm_ci server/tests/auth
	cd server/tests/auth && npm test --silent

.PHONY: test-deploy
test-deploy: build ## The deployment files under real PM2 and nginx
	@$(TOOLS) node22 nginx npm_ci server/tests/deploy
	cd server/tests/deploy && npm test --silent

.PHONY: test-c
test-c: build ## The C library: header, ABI, C programs bare, under sanitizers and valgrind, hosts with real providers
	@$(TOOLS) node22 npm_ci server/tests/provider
	bindings-c/test.sh

.PHONY: test-loss
test-loss: build ## Kill the server and its database while clients type: nothing acknowledged is lost (short)
	@$(TOOLS) postgres
	$(CARGO_TARGET_DIR)/debug/loss --rounds 2 --fidibus $(FIDIBUS_BIN) \
		--scenarios kill-sqlite,term-sqlite,stop-postgres,stop-postgres-kill,memory-acks

.PHONY: loss
loss: ## The loss test in full, stock Hocuspocus beside it; prints the table of benches/LOSS.md
	cargo build --release --quiet --bin fidibus --bin loss
	@$(TOOLS) node22 npm_ci benches/peers
	$(CARGO_TARGET_DIR)/release/loss --rounds 20 --fidibus $(CARGO_TARGET_DIR)/release/fidibus

.PHONY: test-stock
test-stock: ## The provider tests against stock Hocuspocus: proof that they state the field's behaviour
	@$(TOOLS) node22 npm_ci server/tests/provider
	cd server/tests/provider && TARGET=stock npm test --silent

.PHONY: test-node
test-node: ## The npm module: one suite on our package and on stock Hocuspocus, extension packages, applications, examples
	@$(TOOLS) node20 node22 node24 redis postgres npm_ci bindings-node
	bindings-node/test.sh

.PHONY: test-playground
test-playground: build ## The built-in page in Chromium, two windows
	@$(TOOLS) node22 chromium npm_ci server/playground
	cd server/playground && npm test --silent

##### Measure

BENCH := $(CARGO_TARGET_DIR)/release

.PHONY: bench-build
bench-build:
	cargo build --release --quiet --bin fidibus --bin load --bin relay
	@$(TOOLS) node22 npm_ci benches/peers

.PHONY: bench
bench: bench-build ## Micro benchmarks, then a short load run: this server, stock ones and bare relays
	cargo bench --package fidibus-bench
	$(BENCH)/load run --form short --results benches/report/results.jsonl --report benches/report

.PHONY: bench-profiles
bench-profiles: bench-build ## Where the servers spend their time (perf), for the appendix of the report
	$(BENCH)/load run --scenarios rooms,rooms-cursors,fanout-500-busy,saturate-1x100,saturate-100x4 \
		--peers fidibus-memory,relay-tokio --profiles benches/report/appendix
	$(BENCH)/load run --scenarios rooms,saturate-100x4 --peers fidibus-sqlite --profiles benches/report/appendix

.PHONY: bench-full
bench-full: bench-build ## The whole load run, three times more what the targets compare, and its report in benches/report; an hour
	$(BENCH)/load run --form full --targets 3 --results benches/report/results.jsonl --report benches/report
