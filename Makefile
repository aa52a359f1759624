# Two commands from a fresh checkout: `make demo` and `make test`. They need make and Python 3.11 to 3.13.

PYTHON ?= $(firstword $(foreach version,3.11 3.12 3.13,$(shell command -v python$(version) 2>/dev/null)) python3)
BIN := .venv/bin
LOCK := .ci/requirements.lock
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(LOCK)

.DEFAULT_GOAL := help
.PHONY: help demo test field fuzz installs check fmt bench lock clean

help: ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/demo.stamp ## train on real data, record it, show what was recorded
	$(BIN)/python -m tracker_keras.demo

test: .venv/test.stamp ## install what the tests need and run them all
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup --no-loadscope-reorder

field: .venv/test.stamp ## all that `make test` draws a part of: every condition of a training, both backends, more random examples
	FIELD=all $(BIN)/python -m pytest --timeout=0 tests/e2e/field tests/e2e/test_keras_*.py \
	  $$(grep -rl 'from draws import' tests/contracts tests/unit tests/e2e --include='test_*.py' | grep -v /field/)

fuzz: .venv/test.stamp ## three minutes of hostile requests to every route, as every role
	FIELD=all FUZZ_SECONDS=180 $(BIN)/python -m pytest tests/e2e/test_server_fuzz.py

installs: .venv/test.stamp ## each extra alone in a fresh environment, lowest and newest versions, Python 3.11 and 3.13
	$(BIN)/python -m pytest tests/installs --all-installs

check: .venv/check.stamp ## format, lint, types, import contracts, docker files, schema drift
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(BIN)/tracker db upgrade --store "sqlite:///$$folder/drift.db" && \
	$(BIN)/tracker db check --store "sqlite:///$$folder/drift.db"

fmt: .venv/check.stamp ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/test.stamp ## measure against the peers, write BENCHMARKS.md
	$(BIN)/python tests/benchmarks/client.py
	$(BIN)/python tests/benchmarks/server.py

lock: .venv/bin/python ## pin what pyproject.toml names anew; UPGRADE=1 moves all to the newest versions it allows
	$(BIN)/python -m pip install --quiet 'uv>=0.9,<1'
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 $(if $(UPGRADE),--upgrade) --no-header --no-annotate \
	  --no-emit-index-url --all-extras --group dev --output-file $(LOCK) pyproject.toml

clean: ## remove what was installed and made
	rm -rf .venv .bench build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Tracker needs Python 3.11 to 3.13; say which with: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'

.venv/demo.stamp: .venv/bin/python pyproject.toml $(LOCK)
	$(PIP) --editable '.[demo]'
	@touch $@

.venv/test.stamp: .venv/bin/python pyproject.toml $(LOCK)
	$(PIP) --editable '.[demo,mlflow,pandas,postgres,server,system]' --group test
	.ci/browser
	.ci/pgbouncer
	@touch $@

.venv/check.stamp: .venv/bin/python pyproject.toml $(LOCK)
	$(PIP) --editable '.[demo,mlflow,pandas,postgres,server,system]' --group dev
	@touch $@
