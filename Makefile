# `make demo` and `make test` set everything up on first use. See BUILD.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Errors only: no notices of indexes that are not there, and no warning that the installation is editable.
PIP := $(BIN)/python -W ignore::UserWarning -m pip --quiet --quiet
# Set OUT to keep an earlier run; ARGS=--restart makes it anew.
OUT ?= runs/demo
ARGS ?=

.PHONY: help setup demo demo-full demo-assets test test-core test-teachers test-export test-slow \
	test-variants test-networks test-kills test-arm fuzz lint format \
	wheel clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

# The environment is made anew whenever what it is made from changes.
$(VENV)/.ready: requirements.txt constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	$(PIP) install -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.ready-torch: $(VENV)/.ready
	$(PIP) install -c constraints.txt -e '.[dev,torch,hub,networks]'
	touch $@

## setup        make .venv with everything that demo and tests need
setup: $(VENV)/.ready

## demo         amalgamate the two shipped teachers in runs/demo; goes on where it stopped
demo: $(VENV)/.ready
	$(BIN)/keras-amalgam demo --out $(OUT) $(ARGS)

## demo-full    the same with longer training and the comparisons, half an hour; runs/demo_full
demo-full: $(VENV)/.ready
	$(BIN)/keras-amalgam demo --full --out $(OUT)_full $(ARGS)

FAST := $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

## test         the tests, five to six minutes on two cores
test: $(VENV)/.ready
	$(FAST)

## test-core    those of keras_amalgam/ alone; likewise test-teachers and test-export
test-core: $(VENV)/.ready
	$(FAST) tests --ignore tests/teachers --ignore tests/export --ignore tests/networks

test-teachers: $(VENV)/.ready
	$(FAST) tests/teachers tests/networks

test-export: $(VENV)/.ready
	$(FAST) tests/export

## test-slow    the heavier checks: torch exports, networks, wheel, demo end to end
test-slow: $(VENV)/.ready-torch
	$(BIN)/python -m pytest -m "slow and not variant" -n 2 --dist loadfile --no-loadscope-reorder

## test-variants  what the samples of large matrices stand for, a quarter of an hour; writes docs/variants.md
test-variants: $(VENV)/.ready-torch
	$(BIN)/python -m tests.variants --table docs/variants.md

## test-networks  every network that conversion is proved on, an hour; writes docs/networks.md
test-networks: $(VENV)/.ready-torch
	$(BIN)/python -m tests.networks --blind --table docs/networks.md

## test-kills   kill a run at every moment that counts, an hour; writes docs/kills.md
test-kills: $(VENV)/.ready
	$(BIN)/python -m tests.kills --table docs/kills.md

## test-arm     exported files on an emulated phone's processor; says why where parts are missing
test-arm: $(VENV)/.ready
	$(BIN)/python -m tests.arm

## fuzz         mutate ONNX files for ten minutes; results in runs/fuzz
fuzz: $(VENV)/.ready
	$(BIN)/python scripts/fuzz/run.py --seconds 600 --seed 0 --workers 2 --memory-mb 3000 --out runs/fuzz

## lint         ruff and pyright
lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

## format       let ruff mend what it can
format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

## wheel        build dist/*.whl and dist/*.tar.gz
wheel: $(VENV)/.ready
	rm -rf dist build
	$(BIN)/python -m build --outdir dist .

## demo-assets  rebuild the demo's data and teachers from their sources, an hour
demo-assets: $(VENV)/.ready-torch
	$(BIN)/python scripts/demo_assets/build_data.py
	$(BIN)/python scripts/demo_assets/train_digits.py
	$(BIN)/python scripts/demo_assets/train_fashion.py
	$(BIN)/python scripts/demo_assets/check.py --write

## clean        remove what these targets made, except runs/
clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
