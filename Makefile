# Kontor: `make run` starts the platform, `make test` tests it. Both set everything up by themselves.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

# Without compiled bytecode everything starts three to five times slower.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH
unexport VIRTUAL_ENV

VENV := .venv
BIN := $(VENV)/bin
CLIENTS := .venv-clients
UV := $(BIN)/uv --quiet --no-progress

.PHONY: help run test check e2e bench assets lock clean setup

help: ## what there is
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## /\1\t/' | expand -t 10

run: setup assets ## install, build and start the platform on http://localhost:8080
	@exec $(BIN)/kontor up

test: setup assets $(CLIENTS)/.installed ## all tests but those in a browser
	@$(BIN)/python -m pytest -m "not e2e" -n 2 --dist loadscope $(ARGS)

check: setup ## lint, format, types and layers
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

e2e: setup assets ## the browser tests; needs a Chromium
	@$(BIN)/python -m pytest -m e2e tests/e2e $(ARGS)

bench: setup assets ## payments per second, with peers
	@$(BIN)/kontor bench payments $(ARGS)

assets: setup ## build style sheet and scripts, if anything changed
	@$(BIN)/kontor assets

lock: setup ## compile the lock files from pyproject.toml
	@export UV_CUSTOM_COMPILE_COMMAND="make lock"
	options="--universal --python-version 3.11 --generate-hashes --no-emit-index-url"
	$(UV) pip compile pyproject.toml --all-extras $$options $(ARGS) --output-file requirements.lock
	grep -E '^uv==' requirements.lock | cut -d' ' -f1 \
	| $(UV) pip compile - $$options --output-file requirements-bootstrap.lock
	$(UV) pip compile tests/serve_apps/exchange/clients/requirements.in $$options $(ARGS) \
	    --output-file requirements-clients.lock

clean: ## remove the environment and everything built; data in var/ stays
	@rm -rf $(VENV) $(CLIENTS) node_modules build serve_apps/pages/static *.egg-info
	find . -name __pycache__ -not -path './var/*' -prune -exec rm -rf {} +

setup: $(VENV)/.installed $(VENV)/.compiled

$(VENV)/.bootstrapped: requirements-bootstrap.lock
	@supported='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
	python=
	for candidate in python3 python3.13 python3.12 python3.11; do
	    if command -v $$candidate >/dev/null && $$candidate -c "$$supported" 2>/dev/null; then
	        python=$$candidate; break
	    fi
	done
	if [ -z "$$python" ]; then
	    echo "Kontor needs Python 3.11, 3.12 or 3.13; none was found." >&2; exit 1
	fi
	echo "setup: making $(VENV) with $$($$python --version)"
	rm -rf $(VENV)
	$$python -m venv $(VENV) || {
	    echo "python3 -m venv failed: on Debian and Ubuntu, install python3-venv." >&2; exit 1; }
	$(BIN)/python -m pip --quiet --disable-pip-version-check install --require-hashes \
	    -r requirements-bootstrap.lock
	touch $@

$(VENV)/.installed: $(VENV)/.bootstrapped requirements.lock pyproject.toml
	@echo "setup: installing packages"
	export VIRTUAL_ENV="$$PWD/$(VENV)"
	$(UV) pip sync --require-hashes --compile-bytecode requirements.lock
	$(UV) pip install --no-build-isolation --no-deps --editable .
	rm -rf build *.egg-info
	touch $@

# The matching engine, by the C compiler; without one a line says so and the plain form is used.
$(VENV)/.compiled: $(VENV)/.installed $(wildcard domain/trading/*.py)
	@$(BIN)/kontor compile
	touch $@

# Trading clients of others, which the tests of the trading API drive from outside.
$(CLIENTS)/.installed: requirements-clients.lock $(VENV)/.installed
	@echo "setup: installing the trading clients that the tests use"
	$(UV) venv --clear --python $(BIN)/python $(CLIENTS)
	export VIRTUAL_ENV="$$PWD/$(CLIENTS)"
	$(UV) pip sync --require-hashes --compile-bytecode requirements-clients.lock
	touch $@
