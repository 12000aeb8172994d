# `make demo` and `make test` do all their own set-up in .venv.
# PYTHON chooses the interpreter; TORCH another build of torch, e.g. TORCH=torch; PIP_FLAGS go to every pip install.
PYTHON ?= python3
TORCH ?= torch==2.13.0
PIP_FLAGS ?= --quiet
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/installed
	$(BIN)/omics-transformers demo --output demo-output

# A process a core, and a thread a process: threads of several processes on one core wait for each other.
test: export OMP_NUM_THREADS ?= 1
test: .venv/installed-test lint
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python setup.cfg constraints.txt
	$(BIN)/python -m pip install $(PIP_FLAGS) "$(TORCH)" -c constraints.txt
	$(BIN)/python -m pip install $(PIP_FLAGS) -e . -c constraints.txt
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install $(PIP_FLAGS) -e ".[test]" -c constraints.txt
	touch $@

clean:
	rm -rf .venv build demo-output src/*.egg-info
