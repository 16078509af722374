SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup ensure lock doctor lint test browser engine page pages book lab all clean

# The environment: .venv, or the conda environment of environment.yml when it is active.
ifeq ($(CONDA_DEFAULT_ENV),dfmsd)
VENV ?= $(CONDA_PREFIX)
endif
VENV ?= .venv
PY := $(VENV)/bin/python
# The Python that makes .venv; empty means the first 3.11 or 3.12 that can.
PYTHON ?=
SETUP := python=$$($(PY) -c 'import tomllib, sys; print(sys.executable)' 2>/dev/null \
	|| $(if $(PYTHON),echo $(PYTHON),scripts/find_python.sh)) && "$$python" scripts/setup_env.py $(VENV)

PAGE ?= table03
SCALE ?= mini
# nproc takes OMP_NUM_THREADS, the threads of one process, for the number of cores.
JOBS ?= $(shell env -u OMP_NUM_THREADS nproc)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  settings: PAGE=$(PAGE) SCALE=$(SCALE) JOBS=$(JOBS) VENV=$(VENV) PYTHON=(the Python that makes .venv)"

setup: ## make the environment, or repair it
	@$(SETUP) --again

ensure:
	@$(SETUP)

lock: ## write lock.txt anew: the packages that are installed
	@$(PY) scripts/lock.py

doctor: ensure ## say what is wrong with the environment, and the command that mends it
	@$(PY) -m dfmsd doctor

lint: ensure ## style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

test: lint browser engine ## lint, types, unit tests, doctests, smoke run of every page, the book in a browser
	$(PY) -m pytest -n $(shell echo $$(( $(JOBS) < 8 ? $(JOBS) : 8 ))) --dist loadgroup

browser:
	@scripts/get_browser.sh

engine: ensure ## Snakemake, in an environment of its own
	@test -x $(VENV)/engine/bin/snakemake || { $(PY) -m venv $(VENV)/engine && $(VENV)/engine/bin/pip install -q \
		$$($(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["workflow"])'); }

page: ensure ## run what page PAGE misses at scale SCALE, JOBS runs at a time
	$(PY) -m dfmsd page $(PAGE) --scale $(SCALE) --jobs $(JOBS)

pages: ensure ## the same for all pages, with one progress bar
	$(PY) -m dfmsd page --all --scale $(SCALE) --jobs $(JOBS)

book: ensure ## execute the pages, build the book, say where to open it
	@$(PY) -m dfmsd book

lab: ensure ## JupyterLab at this folder, the explore notebook open
	$(VENV)/bin/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks/explore.ipynb

all: book test ## the book, then all tests

clean: ## remove what can be made again: the built book and caches (never runs, records or data)
	rm -rf book/_build book/pages .pytest_cache .mypy_cache .ruff_cache
	find dfmsd tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
