# Everything a newcomer needs: `make demo` and `make test`. Only Python 3.11+ and make are required;
# all else goes into .venv, pinned by hash.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
BENCHMARKS := add_message c_client load history sqlite memory cleanup import_cost archive_insert archive_reports archive_hot_path langgraph_savers observers migration
PRODUCT := --extra cli --extra uvloop
UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-emit-index-url
COMPILE = $(UV_COMPILE) pyproject.toml requirements/build.in
HASHED = $(COMPILE) --constraints constraints.txt --generate-hashes --custom-compile-command 'make constraints'

export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.PHONY: help demo test check check-static format docs bench measure faults fault-table fuzz constraints clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## see it work: a short tour in the terminal
	@$(BIN)/aiecs demo

test: $(VENV)/.test ## run the test suite; ARGS='-k redis' narrows it, ARGS='-n 0' runs it in one process
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

check: check-static test ## everything that CI runs

check-static: $(VENV)/.dev ## format, lint, types, layers and the docs build
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/mkdocs build --strict --quiet

format: $(VENV)/.dev ## format the code and mend what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## serve the documentation on a local port
	@$(BIN)/mkdocs serve --strict

bench: ## measure every claim, beside its peers; ARGS=--quick: does it run?
	@$(MAKE) --no-print-directory VENV=.venv-bench measure

# `AIECS_2_2_0_PYTHON=.venv-aiecs/bin/python make bench`, after `make faults`, adds aiecs 2.2.0.
measure: $(VENV)/.bench
	@for one in $(BENCHMARKS); do $(BIN)/python bench/$$one.py $(ARGS) && echo || exit 1; done

faults: ## count what faults do to messages, beside redis-py and PyPI's aiecs 2.2.0 (a large download)
	@$(MAKE) --no-print-directory VENV=.venv-bench fault-table

fault-table: $(VENV)/.bench .venv-aiecs/.installed
	@AIECS_2_2_0_PYTHON=.venv-aiecs/bin/python $(BIN)/python bench/faults.py $(ARGS)

fuzz: $(VENV)/.fuzz ## look for bytes that break what reads them; ARGS=-max_total_time=600: how long
	@for one in codec keys replies; do \
		PYTHONPATH=test/fuzz $(BIN)/python test/fuzz/fuzz.py $$one $(or $(ARGS),-max_total_time=120) || exit 1; done

# An environment of its own: it is imported as `aiecs` too.
.venv-aiecs/.installed:
	@$(PYTHON) -m venv .venv-aiecs
	@.venv-aiecs/bin/python -m pip --disable-pip-version-check --quiet install 'aiecs[clickhouse]==2.2.0'
	@touch $@

# Poetry, for the command by which the specification runs its test: it needs nothing of ours, nor we
# anything of it.
.venv-poetry/.installed: requirements/poetry.txt
	@$(PYTHON) -m venv .venv-poetry
	@.venv-poetry/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --requirement $<
	@touch $@

# pip refuses to install a project under constraints that carry hashes. So constraints.txt holds the
# bare versions, and requirements/*.txt are its hashed parts: one per environment that we install.
constraints: $(VENV)/.dev ## move every pinned dependency to its latest version
	@$(COMPILE) --upgrade --all-extras --group test --group dev --group bench --output-file constraints.txt \
		--custom-compile-command 'make constraints  (every version we test with, for pip install -c)'
	@$(HASHED) --output-file requirements/demo.txt --extra cli
	@$(HASHED) --output-file requirements/test.txt $(PRODUCT) --group test
	@$(HASHED) --output-file requirements/fuzz.txt requirements/fuzz.in
	@$(UV_COMPILE) --output-file requirements/poetry.txt --generate-hashes requirements/poetry.in \
		--custom-compile-command 'make constraints'
	@$(HASHED) --output-file requirements/bench.txt --extra uvloop --group bench
	@$(HASHED) --output-file requirements/dev.txt $(PRODUCT) --group test --group dev

clean: ## remove what these commands made
	rm -rf $(VENV) .venv-bench .venv-aiecs .venv-poetry site build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find aiecs test -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per environment: a second run installs nothing, a changed pin installs again.
STAMPS := $(VENV)/.demo $(VENV)/.test $(VENV)/.fuzz $(VENV)/.bench $(VENV)/.dev
$(STAMPS): $(VENV)/.%: requirements/%.txt pyproject.toml $(VENV)/.python
	@echo "Installing the pinned $* requirements into $(VENV) ..."
	@$(PIP) --require-hashes --requirement $<
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "'$(PYTHON)' was not found. Install Python 3.11 or newer, or name it: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "'$(PYTHON)' is $$($(PYTHON) --version 2>&1). Python 3.11 or newer is needed; name it: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@
