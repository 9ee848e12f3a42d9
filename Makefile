# Assayline's commands; `make help` lists them. Everything is built into .venv; the data of `up` and `demo` lies in .assayline.

BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench up lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## build .venv from the lock files (instant when nothing changed)
	@PYTHON="$(PYTHON)" sh ops/setup.sh

demo: setup ## start everything, run real jobs, show their results, stop
	@$(BIN)/assayline demo $(ARGS)

test: setup ## run all tests, two files at a time
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile $(ARGS)

check: setup ## lint, format, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup ## measure, for example: make bench ARGS="latency --json"
	@$(BIN)/assayline bench $(ARGS)

up: setup ## run the whole system in the foreground until Ctrl-C
	@exec $(BIN)/assayline up $(ARGS)

lock: ## write the lock files anew from pyproject.toml (asks the package index)
	@sh ops/lock.sh

clean: ## remove .venv, caches and the data of `up` and `demo`
	rm -rf .venv .assayline .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
