# What a person types. Each target installs from Debian what it needs and lacks.

CARGO ?= cargo

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: demo
demo: deps build ## Two clusters in network namespaces become one network, before your eyes; leaves nothing behind
	@scripts/demo.sh

.PHONY: build
build: deps-build ## The binary, target/release/tombolo
	$(CARGO) build --release --locked -p tombolo

.PHONY: test
test: deps deps-kubectl ## All tests, the end-to-end ones included
	$(CARGO) build --locked --workspace
	$(CARGO) test --locked --workspace --no-run
	TOMBOLO_KUBECTL_OLD=$(CURDIR)/target/kubectl-debian/usr/bin/kubectl $(CARGO) test --locked --workspace

.PHONY: lint
lint: deps-build ## rustfmt, and clippy with warnings as errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) fmt --manifest-path bench/Cargo.toml --all --check
	$(CARGO) clippy --manifest-path bench/Cargo.toml --locked --workspace --all-targets -- -D warnings

.PHONY: fuzz
fuzz: ## Fuzz the parsers, a minute each (needs a nightly toolchain and cargo-fuzz)
	scripts/fuzz.sh

.PHONY: bench-bgp
bench-bgp: build ## Route reflectors side by side (BIRD, FRR, GoBGP, ours) under one load; ARGS="--peers bird,tombolo"
	@scripts/deps.sh bench
	@bench/bgp/run.sh $(ARGS)

.PHONY: bench-dns
bench-dns: build ## Name servers side by side (Knot, Unbound, ours) under dnsperf; ARGS="--kind clusterset"
	@scripts/deps.sh bench
	@bench/dns/run.sh $(ARGS)

.PHONY: bench-proxy
bench-proxy: deps-build ## The service proxy's table: from nothing, one change, and what connections notice; ARGS="20000"
	@scripts/deps.sh run
	@bench/proxy/run.sh $(ARGS)

.PHONY: bench-services
bench-services: deps-build ## The controller with 100 clusters: start, memory, one change; ARGS="20 500"
	@bench/services/run.sh $(ARGS)

.PHONY: bench-wireguard
bench-wireguard: build ## WireGuard without the kernel's side by side (gotatun, wireguard-go, ours); ARGS="--peers 1000"
	@scripts/deps.sh bench
	@bench/wireguard/run.sh $(ARGS)

.PHONY: doc
doc: ## rustdoc of all crates
	$(CARGO) doc --locked --workspace --no-deps

.PHONY: deps-build
deps-build:
	@scripts/deps.sh build

.PHONY: deps
deps: deps-build
	@scripts/deps.sh run

.PHONY: deps-kubectl
deps-kubectl:
	@scripts/deps.sh kubectl target/kubectl-debian
