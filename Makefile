# The two commands: `make bench` runs the demo suite, `make test` the tests; both set everything up on a fresh machine.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
SHELL  := /bin/bash

.PHONY: bench test unit lint clean

bench: $(VENV)/ready
	$(BIN)/patchbench run benchmarks/suites/demo.toml

test: $(VENV)/ready lint
	$(BIN)/pytest --cov --cov-report=term:skip-covered -m "not slow and not data and not browser"
	$(BIN)/pytest --cov --cov-append --cov-report=term:skip-covered -m "slow or data or browser"

unit: $(VENV)/ready
	$(BIN)/pytest -m "not slow and not data and not browser"

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# requirements.txt pins everything, down to what our own pins need
$(VENV)/ready: requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "patchbench needs Python 3.11: install it, or make ... PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing pinned packages into $(VENV) (about 3 GB, a minute or two)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

clean:
	rm -rf $(VENV) out
