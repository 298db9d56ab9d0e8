# `make` lists the targets. Each makes what it needs, on a machine with Python 3.11 to 3.13 and make alone.
PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
NPM = $(RUN) .ci/npm.py
SYNCED := $(VENV)/.synced

.DEFAULT_GOAL := help
.PHONY: help setup run demo test torture generate lint check-generated bench vectors web released clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-16s %s\n", $$1, $$2 }'

setup: $(SYNCED) ## .venv with everything that is locked

$(SYNCED): pyproject.toml uv.lock .ci/bootstrap.py
	$(PYTHON) .ci/bootstrap.py
	@touch $@

# --- running

run: setup web ## devnet, core and gateway; Ctrl-C stops all (ARGS="--help")
	$(RUN) -m coordinator_devnet run $(ARGS)

demo: setup ## plays a competition, e.g. ARGS="--players 5 --places 3 --outcome refund"
	$(RUN) -m coordinator_devnet demo $(ARGS)

# --- checking

test: setup web ## pytest, e.g. ARGS="tests/unit -k escrow"
	$(RUN) -m pytest $(ARGS)

torture: setup ## kills a core hundreds of times, at every point of a competition (long), e.g. ARGS="-k split"
	$(RUN) -m pytest tests/torture/long.py $(ARGS)

# Not on `.`: folders that are not the project's own may lie here.
PYTHON_SOURCES := .ci bench clients gateway migrations server tests

lint: setup build/googleapis web/node_modules clients/typescript/node_modules ## ruff, mypy, buf, TypeScript
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	$(BIN)/mypy
	$(BUF) lint
	$(BUF) breaking proto --against proto/released.binpb
	$(NPM) --prefix web run lint
	$(NPM) --prefix clients/typescript test

check-generated: setup ## generated code is what proto/ says
	$(RUN) .ci/generate.py --check
	$(RUN) clients/typescript/scripts/generate.py --check

bench: setup ## measurements, written to bench/results/
	for bench in bench/bench_*.py; do $(RUN) $$bench $(ARGS) || exit 1; done

# --- making

generate: setup ## code from proto/
	$(RUN) .ci/generate.py
	$(RUN) clients/typescript/scripts/generate.py

vectors: ## the contract's test vectors anew, from the Rust crate dlctix (needs cargo)
	cd tests/vectors/dlctix && cargo run --release --locked -- vectors

web: web/dist/index.html ## the browser app

web/dist/index.html: web/node_modules $(shell find web clients/typescript -type f \
		-not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)
	$(NPM) --prefix web run build
	@touch $@

%/node_modules: %/package.json %/package-lock.json $(SYNCED)
	$(NPM) --prefix $* ci --no-audit --no-fund
	@touch $@

clean: ## what can be made again; not the data of `make run`
	rm -rf build dist web/dist web/node_modules clients/typescript/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

# --- protocol buffers

BUF = $(NPM) --exec web/node_modules/.bin/buf

# google/api of the locked googleapis-common-protos; buf does not look into Python packages.
build/googleapis: $(SYNCED)
	@rm -rf $@ && mkdir -p $@/google/api
	cp $(VENV)/lib/python3.*/site-packages/google/api/annotations.proto \
		$(VENV)/lib/python3.*/site-packages/google/api/field_behavior.proto \
		$(VENV)/lib/python3.*/site-packages/google/api/http.proto $@/google/api/

released: setup build/googleapis web/node_modules ## makes the API as it is now the one that may not be broken
	$(BUF) build proto -o proto/released.binpb
