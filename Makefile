# `make help` lists the targets. Each one sets up what it needs in .venv.
#
#   PYTHON       the Python to make .venv with (default: the best one found)
#   TORCH_INDEX  one more index for torch: that for CPUs spares 2 GB of CUDA
#   PYTEST_ARGS  arguments of pytest, as in: make test PYTEST_ARGS='-k core -x'
#   WORKERS      processes that run tests, one thread each (default: 2)
#   DEMO_ARGS    arguments of tools/demo.py

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?=
TORCH_INDEX ?=
PYTEST_ARGS ?=
WORKERS ?= 2
DEMO_ARGS ?=

BIN := .venv/bin/python
SOURCES = $(wildcard mmdynperceiver configs projects tools tests docs/conf.py \
	setup.py)
DOCUMENTED = $(wildcard mmdynperceiver projects tools setup.py docs/conf.py)
TEXTS = $(SOURCES) $(wildcard *.md docs requirements Makefile setup.cfg)
LINTERS := yapf isort flake8 codespell interrogate mypy

.PHONY: help demo test lint format site doctor clean setup-demo setup-test \
	$(addprefix lint-,$(LINTERS))

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' \
	    Makefile

demo: setup-demo  ## Set up (no compiler needed), train, leave early, draw it
	@$(BIN) tools/demo.py $(DEMO_ARGS)

test: setup-test  ## Set up everything, mmcv's operators included, run the tests
	@$(BIN) -m pytest tests -n $(WORKERS) --dist loadfile \
	    --no-loadscope-reorder $(PYTEST_ARGS)

lint: setup-test  ## Check style, spelling, docstrings and types
	@$(MAKE) --no-print-directory --keep-going $(addprefix lint-,$(LINTERS))

format: setup-test  ## Rewrite the sources in the style that lint asks for
	@$(BIN) -m isort $(SOURCES)
	@$(BIN) -m yapf --in-place --recursive --parallel $(SOURCES)

site: setup-test  ## Build the pages of docs/ into work_dirs/site
	@$(BIN) -m sphinx -W --keep-going -q docs work_dirs/site
	@echo 'Open work_dirs/site/index.html'

doctor: setup-demo  ## Show versions, what works, and how to fix the rest
	@$(BIN) -m mmdynperceiver.doctor

clean:  ## Remove .venv and build products; compiled wheels stay cached
	rm -rf .venv build dist *.egg-info mmdynperceiver/.mim
	rm -rf .pytest_cache .mypy_cache
	find mmdynperceiver configs projects tools tests -name __pycache__ -type d \
	    -prune -exec rm -rf {} + 2>/dev/null || true

setup-demo setup-test: setup-%:
	@PYTHON='$(PYTHON)' TORCH_INDEX='$(TORCH_INDEX)' tools/dev/set_up.sh $*

# The single checks, also the hooks of .pre-commit-config.yaml.
lint-yapf:
	@$(BIN) -m yapf --diff --recursive --parallel $(SOURCES)

lint-isort:
	@$(BIN) -m isort --check-only --diff $(SOURCES)

lint-flake8:
	@$(BIN) -m flake8 $(SOURCES)

lint-codespell:
	@$(BIN) -m codespell_lib $(TEXTS)

lint-interrogate:
	@$(BIN) -m interrogate --config setup.cfg $(DOCUMENTED)

lint-mypy:
	@$(BIN) -m mypy $(wildcard mmdynperceiver/core mmdynperceiver/deploy)
