# make demo and make test do all the set-up themselves; they need Python 3.11 or newer with venv and pip.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

# The newest release the package allows. Where the index offers builds with and without CUDA, override
# this with the one you want: make demo TORCH=...
TORCH ?= torch==2.13.0

# Results must not depend on how many cores a machine has; the program itself has --threads.
export OMP_NUM_THREADS ?= 1
export MPLBACKEND := Agg

.PHONY: demo test lint slow clean distclean
.DEFAULT_GOAL := demo

demo: $(VENV)/.stamp-run
	$(BIN)/elbomix fit examples/theophylline/theophylline.ctl --covariates "WT,SEX" --output demo

test: lint
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

lint: $(VENV)/.stamp-dev
	$(BIN)/ruff check . src/elbomix/__init__.py
	$(BIN)/ruff format --check . src/elbomix/__init__.py
	$(BIN)/mypy

slow: $(VENV)/.stamp-dev
	$(BIN)/python -m pytest -m slow $(PYTEST_FLAGS)

clean:
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find engine parsers compat tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

$(VENV)/.stamp-run: pyproject.toml
	@test -n "$(PYTHON)" || { echo "elbomix needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON): once, a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install "$(TORCH)"
	$(PIP) install --editable .
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-run
	@echo "Adding the checkers and the test runner to $(VENV)"
	$(PIP) install --editable ".[dev]"
	@touch $@
