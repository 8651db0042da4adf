# Two commands set up everything they need: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
# The CPU or CUDA build of PyTorch that the parity tests compare against.
TORCH ?= torch
# The tested versions of everything; empty (as in `make test-latest`): the newest that setup.py allows.
LOCK ?= requirements/lock.txt
# All extras but `beam`, which takes no protobuf 7 and so another sentencepiece.
LOCKED := board cloud completion cuda dev docs embedding mutants notebooks ray test tpu wandb
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(LOCK))

# Large memory pages (glibc, Linux) make steps of the quickstart's size faster; larger models gained nothing.
QUICKSTART_ENV ?= GLIBC_TUNABLES=glibc.malloc.hugetlb=1

# `make mutants MUTANTS='--count 50 --seed 1 metrics'` samples fewer, others, or of one room.
MUTANTS ?= --count 200

# `make campaign CAMPAIGN='--minutes 5 --only kills --seed 1'` tries less, or others.
CAMPAIGN ?=

.PHONY: quickstart alignment test test-latest test-beam test-ray mutants campaign lint format docs notebooks walkthroughs lock clean

quickstart: $(VENV)/.installed  ## pre-train, fine-tune and evaluate a tiny T5, then print the table
	$(QUICKSTART_ENV) $(BIN)/mto quickstart

alignment: $(VENV)/.installed  ## which template wants which pre-training: the small form of the study of docs/results.md
	$(QUICKSTART_ENV) $(BIN)/mto tables --gin_file=tables/alignment.gin --gin.OUTPUT_DIR=runs/alignment/grid

test: $(VENV)/.installed-test  ## run the tests
	$(BIN)/python -m pytest tests -n 2 --dist worksteal -q

test-latest:  ## run the tests with the newest versions that setup.py allows: drift is seen as drift
	$(MAKE) test VENV=.venv-latest LOCK=

test-beam: $(VENV)/.installed-test  ## the tests of Apache Beam, in .venv-beam: it takes other versions than the lock's
	test -x .venv-beam/bin/python || $(PYTHON) -m venv .venv-beam
	.venv-beam/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[beam]' pytest hypothesis
	.venv-beam/bin/python -m pytest tests/data/test_sharded.py -q

test-ray: $(VENV)/.installed-test  ## the tests of Ray: its processes want the cores for themselves
	$(PIP) --editable '.[ray]'
	$(BIN)/python -m pytest tests/experiments/test_ray_engine.py -q

mutants: $(VENV)/.installed-test  ## how many of a random sample of small faults the tests notice (hours)
	$(PIP) --editable '.[mutants]'
	$(BIN)/python -m tests.mutants $(MUTANTS)

campaign: $(VENV)/.installed-test  ## kills, damage, malformed input, full disks: nothing wrong in silence (20 minutes)
	$(BIN)/python -m tests.campaign $(CAMPAIGN)

lint: $(VENV)/.installed-test $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs  ## build the site into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 JAX_PLATFORMS=cpu PYTHONPATH=. $(BIN)/mkdocs build --strict --quiet

notebooks: $(VENV)/.installed-notebooks  ## execute the notebooks on the model of `make quickstart`
	JAX_PLATFORMS=cpu PYTHONPATH=. $(BIN)/python -m tests.notebooks

walkthroughs: $(VENV)/.installed-test  ## run the commands of four users' pages on the model of `make quickstart`
	JAX_PLATFORMS=cpu $(BIN)/python -m tests.walkthroughs

lock: $(VENV)/.installed-dev  ## resolve the tested versions again; commit what it writes when the tests pass
	$(BIN)/uv pip compile setup.py $(LOCKED:%=--extra %) --universal --python-version 3.11 --no-annotate \
	  --upgrade --custom-compile-command 'make lock' --output-file requirements/lock.txt
	$(BIN)/uv pip compile requirements/light.in --constraint requirements/lock.txt --universal --python-version 3.11 \
	  --no-annotate --upgrade --custom-compile-command 'make lock' --output-file requirements/light.txt

$(VENV)/.installed: setup.py $(LOCK)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) $(TORCH) --editable '.[test]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	touch $@

$(VENV)/.installed-notebooks: $(VENV)/.installed
	$(PIP) --editable '.[notebooks]'
	touch $@

clean:
	rm -rf site $(VENV) .venv-latest .venv-beam build dist *.egg-info runs
