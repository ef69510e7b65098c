# GNU make. `make quickstart` and `make test` work on a fresh clone: they install the packages, the CPU set unless
# `make install-gpu` has installed the GPU set.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
PIP := .venv/bin/python -m pip --disable-pip-version-check install -q
# The set of packages in .venv, or the one to install.
SET := $(or $(shell cat .venv/.set 2>/dev/null),cpu)
STAMP := .venv/.installed-$(SET)
TORCH = $$(grep '^torch==' constraints/cpu.txt)

.PHONY: help install install-gpu quickstart test unit e2e test-slow lint ui bench-quickstart sweep-demo chaos

help:
	@echo 'make quickstart        install, then train the two quickstarts (CPU)'
	@echo 'make test              install, lint, unit tests, end-to-end tests'
	@echo 'make unit, make e2e    the unit tests alone, the end-to-end tests alone'
	@echo 'make test-slow         the long fuzz and fault runs'
	@echo 'make lint              ruff, mypy, import-linter'
	@echo 'make ui                the runs (MLflow) and the sweeps (optuna-dashboard) in a browser'
	@echo 'make sweep-demo        a sweep of ten trials on a tiny model, its best point exported and confirmed'
	@echo 'make bench-quickstart  measure time and memory of the quickstart by phase'
	@echo 'make chaos             kill, starve and corrupt 20 runs and more, and resume them (40 minutes)'
	@echo 'make install           .venv alone, the CPU set; PYTHON=python3.12 picks the interpreter'
	@echo 'make install-gpu       .venv alone, the GPU set: Python 3.12, CUDA 13 (about 6 minutes, 8 GB)'

install: .venv/.installed-cpu

install-gpu: .venv/.installed-gpu

# constraints/cpu.txt is complete, so pip resolves nothing. The step for torch does nothing with a CPU build, and
# fetches CUDA's libraries if the package index had a CUDA build.
.venv/.installed-cpu: constraints/cpu.txt constraints/dev.txt constraints/vllm-name/pyproject.toml pyproject.toml
	@$(PYTHON) guidelines_core/hardware/host.py
	@echo 'Installing the CPU set into .venv (about 2 minutes) ...'
	@$(PYTHON) -m venv .venv && echo cpu > .venv/.set
	@$(PIP) --no-deps $$(grep -E '^(setuptools|wheel)==' constraints/cpu.txt)
	@$(PIP) --no-deps --no-build-isolation -r constraints/cpu.txt -r constraints/dev.txt
	@$(PIP) "$(TORCH)" -c constraints/cpu.txt
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; cp constraints/vllm-name/pyproject.toml "$$tmp"; \
		$(PIP) --no-deps --no-build-isolation "$$tmp"
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@
	@echo 'Installed.'

# constraints/gpu.txt is complete as well, CUDA's libraries included.
.venv/.installed-gpu: constraints/gpu.txt constraints/dev.txt pyproject.toml
	@$(PYTHON) guidelines_core/hardware/host.py gpu
	@echo 'Installing the GPU set into .venv (about 6 minutes) ...'
	@$(PYTHON) -m venv .venv && echo gpu > .venv/.set
	@$(PIP) --no-deps $$(grep -E '^(setuptools|wheel)==' constraints/gpu.txt)
	@$(PIP) --no-deps --no-build-isolation -r constraints/gpu.txt -r constraints/dev.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@
	@echo 'Installed.'

quickstart: .venv/.installed-cpu
	@.venv/bin/python experiments/run.py --name quickstart --resume
	@.venv/bin/python experiments/run.py --name quickstart-exactmatch --resume

# The unit tests wait for a part of their time, so that three workers fill two cores. Python's byte code is kept, whatever
# the environment says: some hundred interpreters are started.
unit e2e: export PYTHONDONTWRITEBYTECODE :=
test: lint unit e2e

unit: $(STAMP)
	.venv/bin/python -m pytest tests/unit $(wildcard tests/contract) -n 3 --dist loadfile

# They run on a CPU. With the GPU set, one step of a tiny model replaces them if there is a GPU.
e2e: $(STAMP)
ifeq ($(SET),cpu)
	.venv/bin/python -m pytest tests/e2e -n 2
else
	@if nvidia-smi -L; then \
		.venv/bin/python -m analysis.bench.start --name tiny --starts 1 layout=colocated-1; \
	else echo 'No GPU here: the loop itself was not run.'; fi
endif

test-slow: $(STAMP)
	.venv/bin/python -m pytest tests -m slow -s

lint: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

ui: $(STAMP)
	@.venv/bin/optuna-dashboard --host 127.0.0.1 --port 8080 sqlite:///optuna.db & trap "kill $$!" EXIT; \
		.venv/bin/mlflow ui --host 127.0.0.1

# A random model never ends its texts, so all of them are truncated.
sweep-demo: $(STAMP)
	@.venv/bin/python sweeps/throughput.py --name tiny --trials 10 --truncated 1 --export tiny-swept --confirm

bench-quickstart: .venv/.installed-cpu
	@.venv/bin/python -m analysis.bench.quickstart --out analysis/results/quickstart.json

chaos: $(STAMP)
	@.venv/bin/python -m tests.chaos.run --runs 20 --seed 0
