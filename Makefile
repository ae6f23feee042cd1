# Two commands on a fresh machine with Rust: `make demo` and `make test`. Each installs what is missing.

CARGO ?= cargo
MILLRACE = target/release/millrace

.DEFAULT_GOAL := help
.PHONY: help demo dev test check bench fuzz fmt deps test-deps

help:  ## Show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: deps  ## Watch payments survive the crash of the settler (under a minute, once built)
	$(CARGO) build --release --locked -p cli
	$(MILLRACE) demo $(ARGS)

dev: deps  ## Run a whole stack until Ctrl-C; ARGS="--relayers 3" and the like are passed on
	$(CARGO) build --release --locked -p cli
	$(MILLRACE) dev $(ARGS)

# The integration tests run the real binaries, which `cargo test` alone would not build.
test: test-deps  ## Run every test
	$(CARGO) build --locked --workspace --bins
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --locked --workspace && $(CARGO) test --locked --workspace --doc; \
	else \
		set -x; $(CARGO) test --locked --workspace; \
	fi
	tests/k8s.sh
	tests/api.sh

bench: deps  ## Measure what payments cost (docs/BENCHMARKS.md); ARGS=--brief only shows that it runs
	$(CARGO) bench --locked -p cli --bench bench -- $(ARGS)

check: deps  ## All that a change must pass: format, lints, docs, tests, licences and sources
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	$(MAKE) test
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		set -x; $(CARGO) deny check licenses bans sources; \
	else \
		echo "cargo-deny is not installed: licences, bans and sources were not checked" >&2; \
	fi

fuzz: deps  ## Try new inputs on every decoder, a minute each
	tests/fuzz.sh 60

fmt:  ## Format everything
	$(CARGO) fmt --all

deps:
	@tests/install-deps.sh

test-deps:
	@tests/install-deps.sh --test
