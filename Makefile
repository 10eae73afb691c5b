# Every target makes its own environment, .venv, when it is missing or when what it is made from has changed;
# needed beforehand: Python >= 3.11 and make. All paths are relative, so a checkout may lie under a name with spaces.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo demo-live test test-slow check bench docs fuzz clean

VENV := .venv
RUN := $(VENV)/bin/python
RUNTIME := $(VENV)/.made-runtime
DEV := $(VENV)/.made-dev
MADE_FROM := pyproject.toml constraints.txt src/cryoscout/__init__.py

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# One thread each: two on a busy machine can be slower than one, and sums stay the same from run to run.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 MPLBACKEND=Agg
PYTEST := $(ONE_THREAD) $(RUN) -m pytest
# Never with --quiet: it also silences the warnings that --strict counts. The variable hides an advertisement.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile | awk -F': ' '{printf "make %-10s %s\n", $$1, $$2}'

demo: $(RUNTIME) ## plan and replay the built-in session; writes cryoscout-demo/
	$(VENV)/bin/cryoscout demo

demo-live: $(RUNTIME) ## the advisor's page on a recorded session that is played; Ctrl-C ends it
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[live]'
	$(VENV)/bin/cryoscout serve y1 --replay 60

test: $(DEV) ## the tests that take seconds
	$(PYTEST) -n 2 --dist worksteal -m "not slow"

test-slow: $(DEV) ## the tests that take minutes, and every property-based test with four times the examples
	CRYOSCOUT_TEXTS_IN_PYARROW=1 $(PYTEST) -m slow
	CRYOSCOUT_HYPOTHESIS_PROFILE=thorough $(PYTEST) -n 2 --dist worksteal -m "hypothesis and not slow"

# Other settings in tests/fuzz.py; every property-based test for an hour: make fuzz FUZZ_TESTS=tests FUZZ_SECONDS=3600
fuzz: $(DEV) ## the property-based tests of all that read what others wrote, new examples for FUZZ_SECONDS, by default 60
	$(ONE_THREAD) FUZZ_SECONDS="$(FUZZ_SECONDS)" FUZZ_CASES="$(FUZZ_CASES)" $(RUN) tests/fuzz.py $(FUZZ_TESTS)

check: $(DEV) ## style, types, import direction, documented commands, documentation build
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	$(RUN) scripts/run_documented_commands.py
	$(MKDOCS)

docs: $(DEV) ## the documentation as web pages under site/
	$(MKDOCS)

bench: $(DEV) ## every benchmark, one JSON object each
	$(RUN) benchmarks/routing.py --json
	$(ONE_THREAD) $(RUN) benchmarks/first_use.py --json
	$(RUN) benchmarks/formats.py --json
	$(ONE_THREAD) $(RUN) benchmarks/advice.py --json
	$(ONE_THREAD) $(RUN) benchmarks/live.py --json
	$(ONE_THREAD) $(RUN) benchmarks/live_page.py --json
	$(ONE_THREAD) $(RUN) benchmarks/learning.py --json
	$(ONE_THREAD) $(RUN) benchmarks/perception.py --json
	$(RUN) benchmarks/coupling.py --json

# The next make installs again; the environment itself stays, because remaking it takes minutes.
clean: ## remove what the other targets wrote, except .venv
	rm -rf site dist cryoscout-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f $(RUNTIME) $(DEV)

# Each candidate is run, not only looked up: a version manager may offer a name that fails when called.
$(RUNTIME): $(MADE_FROM)
	@if $(RUN) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then exit 0; fi; \
	for python in "$(PYTHON)" python3.13 python3.12 python3.11 python3 python; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    rm -rf $(VENV); echo "making $(VENV) with $$python" >&2; exec "$$python" -m venv $(VENV); fi; done; \
	echo "Python must be 3.11 or newer. Got none among: $(PYTHON) python3.13 python3.12 python3.11 python3 python." \
	  "Remedy: install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1
	$(RUN) -m pip install --quiet --upgrade 'pip>=25.1'
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(DEV): $(RUNTIME)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[learn]' --group dev
	@touch $@
