# Needs Python 3.11 or newer and make. `make PYTHON=python3.12 demo` chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: venv demo test lint clean

# The environment alone, with the command `bsqc` in it.
venv: .venv/installed

# From nothing to figures and a picture: encode and decode the bundled sample, into demo/.
demo: .venv/installed
	$(BIN)/bsqc demo demo

# Everything that has to pass, the slow tests included.
test: lint
	$(BIN)/pytest -m "slow or not slow"

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/mypy

clean:
	rm -rf demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, not " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable '.[dev]'
	@touch $@
