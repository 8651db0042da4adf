# Two commands set up everything they need: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
# The CPU or CUDA build of PyTorch that the parity tests compare against.
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Large memory pages (glibc, Linux) make steps of the quickstart's size faster; larger models gained nothing.
QUICKSTART_ENV ?= GLIBC_TUNABLES=glibc.malloc.hugetlb=1

.PHONY: quickstart test lint format clean

quickstart: $(VENV)/.installed  ## pre-train, fine-tune and evaluate a tiny T5, then print the table
	$(QUICKSTART_ENV) $(BIN)/mto quickstart

test: $(VENV)/.installed-test  ## run the tests
	$(BIN)/python -m pytest tests -n 2 --dist worksteal -q

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) $(TORCH) --editable '.[test]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info runs
