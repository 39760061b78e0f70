# Everything lives in this folder: the environment in .venv, services in .services, logs in .millrace.

PYTHON  ?= $(shell command -v python3.11 || command -v python3)
BIN     := .venv/bin
PIP     := $(BIN)/python -m pip install --quiet --no-cache-dir --disable-pip-version-check
DATA    ?= ../shared/data
SECONDS ?=
RATE    ?= 400

.DEFAULT_GOAL := help
.PHONY: help demo test test-unit lint fmt house up down e2e e2e-short replay-check replay-check-short kills cases-servers bench bench-features bench-engine bench-swap backtest-card bench-replay docs lock clean

help: ## Show this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# --- environments: .venv holds the default install; `make test-unit`, then `make test` and `make lint` add to it ------------
# Python compiles what tests import; compiling all that torch brings (--no-compile leaves it out) would take a minute more.

.venv/.default: requirements/default.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 15) else f"Millrace needs Python 3.11 to 3.14, this is {v[0]}.{v[1]}; name another one: make PYTHON=python3.11 ...")'
	@echo "installing the default environment into .venv (no torch) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) --require-hashes -r requirements/default.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.unit: .venv/.default requirements/unit.txt
	@echo "installing what unit tests need into .venv (no torch) ..."
	@$(PIP) --no-compile --require-hashes -r requirements/unit.txt
	@touch $@

.venv/.test: .venv/.default requirements/test.txt
	@echo "installing what tests and training need into .venv (torch: some minutes, 5 GB) ..."
	@$(PIP) --no-compile --require-hashes -r requirements/test.txt
	@touch $@

# --- look -----------------------------------------------------------------------------------------------------------------

demo: .venv/.default ## Run everything on this machine and watch live answers (SECONDS=30 RATE=400)
	@$(BIN)/millrace demo --rate $(RATE) $(if $(SECONDS),--seconds $(SECONDS))

# --- check ----------------------------------------------------------------------------------------------------------------

# Tests that share no server run on all cores. The others (marker `shared`, set by tests/conftest.py) wait for servers more than
# they compute: two at a time, on any machine. The coverage of stream_app by the first part is printed, not gated.
PARALLEL := -m "not shared" -n auto --dist loadfile --doctest-modules tests/unit tests/contract tools stream_app/features/aggregations

test: .venv/.test ## All tests, on a real Kafka and Redis that they start themselves
	@begin=$$(date +%s); failed=0; \
	$(BIN)/python -m pytest --durations 10 --cov stream_app --cov-report= $(PARALLEL) || failed=1; \
	echo "coverage of stream_app by the tests without services: $$($(BIN)/coverage report --format=total) %"; \
	$(BIN)/python -m pytest --durations 10 -m shared -n 2 --dist worksteal tests || failed=1; \
	echo "make test took $$(( $$(date +%s) - begin )) s"; exit $$failed

test-unit: .venv/.unit ## Only the tests that need no service, and no torch where .venv has none
	@begin=$$(date +%s); failed=0; \
	$(BIN)/python -m pytest --durations 10 $(PARALLEL) || failed=1; \
	echo "make test-unit took $$(( $$(date +%s) - begin )) s"; exit $$failed

lint: .venv/.test ## ruff, mypy --strict, import rules, names, cycles, commit subjects, generated documents
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/python -m tools.lint_names
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/millrace docs --check
	@$(BIN)/python -m benchmarks.figures --check

house: .venv/.default ## Size and shape of the source tree, as one line of JSON
	@$(BIN)/python -m tools.house

fmt: .venv/.test ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: .venv/.test ## Write the generated documents
	@$(BIN)/millrace docs
	@$(BIN)/python -m benchmarks.figures

# --- real services without Docker -----------------------------------------------------------------------------------------

up: .venv/.default ## Start a real Kafka and Redis on this machine
	@$(BIN)/millrace services up

down: ## Stop them
	@test ! -x $(BIN)/millrace || { $(BIN)/millrace services down; $(BIN)/millrace services cluster down; }

# --- prove ----------------------------------------------------------------------------------------------------------------

e2e: .venv/.test ## All real events through real services with kills; compares the state with brute force (DATA=../shared/data)
	@$(BIN)/python -m verification.e2e --data $(DATA)

e2e-short: .venv/.test ## The same with a few thousand events
	@$(BIN)/python -m verification.e2e --data $(DATA) --short

replay-check: .venv/.test ## A live run with a crash, recorded and replayed: differences to the bit (DATA=../shared/data)
	@$(BIN)/python -m verification.replay_check --data $(DATA)

replay-check-short: .venv/.test ## The same with some thousand events
	@$(BIN)/python -m verification.replay_check --data $(DATA) --short

kills: .venv/.test ## A worker under load, killed twenty times in three minutes; counts every outcome by independent code
	@$(BIN)/python -m verification.kill_count

cases-servers: .venv/.test ## Situations of real servers, by their tests: cases, passed and failed as one line of JSON
	@$(BIN)/python -m tools.server_cases

bench: .venv/.test ## Events per second and latency, beside an idiomatic Faust application
	@$(BIN)/python -m benchmarks.bench

bench-features: .venv/.test ## The feature engine by itself: events per second in memory and Redis, bytes of a user (DATA=../shared/data)
	@$(BIN)/python -m benchmarks.bench_features --data $(DATA)

bench-swap: .venv/.test ## 20 changes of the model under load: what is lost, what is mixed, what it costs the answers
	@$(BIN)/python -m benchmarks.swap

bench-replay: .venv/.test ## Replay: features and model per second, memory at 1 M and 20 M events, Polars and DuckDB beside it (DATA=../shared/data)
	@$(BIN)/python -m benchmarks.bench_replay --data $(DATA)

bench-engine: .venv/.test ## The model by itself: rows per second of every engine, candidates of 20,000 items
	@$(BIN)/python -m benchmarks.bench_engine

backtest-card: .venv/.test ## Models, trees and rules on card transactions by the handbook's protocol, with intervals (DATA=../shared/data)
	@$(BIN)/python -m benchmarks.backtest_card --data $(DATA)

# --- keep -----------------------------------------------------------------------------------------------------------------

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet pyproject.toml --group build
lock: ## Pin all requirements again, with hashes, for every Python that is supported (needs uv)
	@$(LOCK) -o requirements/default.txt
	@$(LOCK) --extra data --extra backtest --extra profiling --extra spark --extra mlflow --extra objects --extra bench --extra train --extra dev -c requirements/default.txt -o requirements/test.txt
	@$(LOCK) --extra data --extra backtest --extra profiling --extra objects --extra dev -c requirements/test.txt -o requirements/unit.txt

clean: down ## Remove environment, services and logs
	@rm -rf .venv .services .millrace
