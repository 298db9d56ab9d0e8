# `make` lists the targets. Each makes what it needs, on a machine with Python 3.11 to 3.13 and make alone.
PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
NPM = $(RUN) .ci/npm.py
SYNCED := $(VENV)/.synced

.DEFAULT_GOAL := help
.PHONY: help setup run demo test generate lint check-generated bench vectors web released clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-16s %s\n", $$1, $$2 }'

setup: $(SYNCED) ## .venv with everything that is locked

$(SYNCED): pyproject.toml uv.lock .ci/bootstrap.py
	$(PYTHON) .ci/bootstrap.py
	@touch $@

# --- running

run: setup $(if $(wildcard web/package.json),web) ## devnet, core and gateway; Ctrl-C stops all (ARGS="--help")
	$(RUN) -m coordinator_devnet run $(ARGS)

demo: setup ## plays a competition, e.g. ARGS="--players 5 --places 3 --outcome refund"
	$(RUN) -m coordinator_devnet demo $(ARGS)

# --- checking

test: setup $(if $(wildcard web/package.json),web) ## pytest, e.g. ARGS="tests/unit -k escrow"
	$(RUN) -m pytest $(ARGS)

# Not on `.`: folders that are not the project's own may lie here.
PYTHON_SOURCES := .ci bench clients/python gateway migrations server tests

lint: setup build/googleapis $(if $(wildcard web/package.json),web/node_modules) buf ## ruff, mypy, buf, web
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	$(BIN)/mypy
	$(BUF) lint
	$(BUF) breaking proto --against proto/released.binpb
	$(if $(wildcard web/package.json),$(NPM) --prefix web run --if-present lint)

check-generated: setup ## generated code is what proto/ says
	$(RUN) .ci/generate.py --check
	$(if $(wildcard clients/typescript/package.json),$(NPM) --prefix clients/typescript run --if-present check-generated)

bench: setup ## measurements, written to bench/results/
	for bench in bench/bench_*.py; do $(RUN) $$bench $(ARGS) || exit 1; done

# --- making

generate: setup ## code from proto/
	$(RUN) .ci/generate.py
	$(if $(wildcard clients/typescript/package.json),$(NPM) --prefix clients/typescript run --if-present generate)

vectors: ## the contract's test vectors anew, from the Rust crate dlctix (needs cargo)
	cd tests/vectors/dlctix && cargo run --release --locked -- vectors

web: web/dist/index.html ## the browser app

web/dist/index.html: web/node_modules $(shell find web clients/typescript -type f \
		-not -path '*/node_modules/*' -not -path 'web/dist/*' 2>/dev/null)
	$(NPM) --prefix web run build
	@touch $@

web/node_modules: $(SYNCED) $(wildcard web/package.json web/package-lock.json)
	$(NPM) --prefix web ci --no-audit --no-fund
	@touch $@

clean: ## what can be made again; not the data of `make run`
	rm -rf build dist web/dist web/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

# --- protocol buffers

# buf is locked with the other npm packages; before there are any, by its version here.
BUF_VERSION := 1.75.0
BUF_HOME := $(if $(shell grep -s bufbuild/buf web/package.json),web,$(if \
	$(shell grep -s bufbuild/buf clients/typescript/package.json),clients/typescript,build/buf))
BUF = $(NPM) --exec $(BUF_HOME)/node_modules/.bin/buf

.PHONY: buf
buf: setup $(BUF_HOME)/node_modules

clients/typescript/node_modules: $(SYNCED) $(wildcard clients/typescript/package.json clients/typescript/package-lock.json)
	$(NPM) --prefix clients/typescript ci --no-audit --no-fund
	@touch $@

build/buf/node_modules: $(SYNCED)
	@mkdir -p build/buf
	$(NPM) --prefix build/buf install --no-audit --no-fund --no-save @bufbuild/buf@$(BUF_VERSION)
	@touch $@

# google/api of the locked googleapis-common-protos; buf does not look into Python packages.
build/googleapis: $(SYNCED)
	@rm -rf $@ && mkdir -p $@/google/api
	cp $(VENV)/lib/python3.*/site-packages/google/api/annotations.proto \
		$(VENV)/lib/python3.*/site-packages/google/api/field_behavior.proto \
		$(VENV)/lib/python3.*/site-packages/google/api/http.proto $@/google/api/

released: setup build/googleapis buf ## makes the API as it is now the one that may not be broken
	$(BUF) build proto -o proto/released.binpb
