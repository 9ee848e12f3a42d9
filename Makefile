# Assayline's commands. `make help` lists them. Everything is built into .venv; the data of `up` and `demo` lies in .assayline.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.assayline-setup
# The pip that Python brings may be too old to read a lock with hashes and markers well; this one is known to.
PYTHON_OK := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
LOCK := uv pip compile pyproject.toml --extra openai --extra embedded --extra dev
LOCK_OPTIONS := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-annotate --no-header --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check bench up lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## build .venv from the lock files (instant when nothing changed)

demo: setup ## start everything, run real jobs, show their results, stop
	@$(BIN)/assayline demo

test: setup ## run all tests
	@$(BIN)/python -m pytest $(ARGS)

check: setup ## lint, format, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup ## measure, e.g. make bench ARGS="latency --json"
	@$(BIN)/assayline bench $(ARGS)

up: setup ## run the whole system in the foreground until Ctrl-C
	@$(BIN)/assayline up $(ARGS)

lock: ## write the lock files anew from pyproject.toml (needs the network)
	@test -x $(BIN)/python || $(MAKE) --no-print-directory setup
	@$(BIN)/python -m ops.lock

clean: ## remove .venv, caches and the data of `up` and `demo`
	rm -rf $(VENV) .assayline .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
