# Assayline's commands; `make help` lists them. Everything is built into .venv; the data of `up` and `demo` lies in .assayline.

BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-benches test-brokers check bench up lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## build .venv from the lock files (instant when nothing changed)
	@PYTHON="$(PYTHON)" sh ops/setup.sh

demo: setup ## start everything, run real jobs, show their results, stop
	@$(BIN)/assayline demo $(ARGS)

# Each starts a whole system and measures it: minutes, of the tool and not of the product.
BENCH_TESTS := tests/integration/test_bench.py tests/integration/test_chaos.py
# Three on two cores: the tests wait for processes to start a third of their time.
PYTEST := $(BIN)/python -m pytest --numprocesses=3 --dist=loadfile

test: setup ## run all tests but those of the benches, three files at a time
	@$(PYTEST) $(addprefix --ignore=,$(BENCH_TESTS)) $(ARGS)

test-benches: setup ## run the tests of the benches: what they measure, and that each fails without its mechanism
	@$(PYTEST) $(BENCH_TESTS) $(ARGS)

# Those with workers, a dispatcher and a broker between them; of the deaths at every step those that a message survives.
KILLED := tests/fault/test_kill_at_every_step.py::test_killed
BROKER_TESTS := tests/integration/test_worker.py tests/fault/test_messages.py tests/fault/test_shutdown.py \
	tests/fault/test_liveness.py tests/fault/test_away_for_a_minute.py tests/fault/test_cancel_running.py \
	$(KILLED)_before_the_end_is_written $(KILLED)_in_mid_call $(KILLED)_once_the_end_is_written

test-brokers: setup ## run the tests that go through a broker over RabbitMQ, and over Redis behind Sentinels
	@for broker in rabbitmq sentinel; do echo "over $$broker:"; ASSAYLINE_TEST_BROKER=$$broker \
		$(PYTEST) -rs $(BROKER_TESTS) $(ARGS) || exit 1; done

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
