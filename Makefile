# Everything runs in .venv, which the first target that needs it makes. Needs Python 3.11+, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: help demo test test-slow test-minimum lint format bench docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

demo: $(STAMP)  ## install, then run the main job offline
	$(BIN)/adapteo demo

test: $(DEV_STAMP)  ## install, then run the tests, as many at a time as there are cores
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term:skip-covered

test-slow: $(DEV_STAMP)  ## the tests that need minutes
	$(BIN)/python -m pytest -m slow

test-minimum:  ## the tests with the oldest supported libraries, in an environment of their own
	$(PYTHON) -m venv .venv-minimum
	.venv-minimum/bin/pip install --quiet -c constraints-minimum.txt -e '.[dev]'
	.venv-minimum/bin/python -m pytest -o filterwarnings=ignore  # old libraries warn about each other

lint: $(DEV_STAMP)  ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP)  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV_STAMP)  ## speed and memory, as ratios against peers
	$(BIN)/python -m benchmarks

docs: $(DEV_STAMP)  ## write docs/reference and docs/methods.md anew from the code, and what backbones were pre-trained on
	$(BIN)/python tools/make_imagery.py
	$(BIN)/python tools/make_methods.py
	$(BIN)/python tools/make_docs.py

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "AdaptEO needs Python 3.11 or newer; say PYTHON=... to make")'
	$(PYTHON) -m venv $(VENV)

# constraints.txt: the versions the tests were last run with
$(STAMP): pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(DEV_STAMP): pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@ $(STAMP)

clean:  ## remove the environment and caches
	rm -rf $(VENV) .coverage* .pytest_cache .ruff_cache .mypy_cache dist
