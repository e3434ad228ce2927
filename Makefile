# setup        make .venv and install from constraints.txt; quiet when nothing changed
# quickstart   the whole job in miniature, then the table and the report
# test         style, types and the fast tests     test-all   the slow tests too

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
STAMP := .venv/.adapterstilts

.PHONY: setup quickstart test test-all lint bench

setup: $(STAMP)
	@:

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (once; a few minutes)"
	@$(PIP) install torch -c constraints.txt
	@$(PIP) install -e '.[dev]' -c constraints.txt
	@touch $@

quickstart: setup
	@$(BIN)/adapterstilts run recipes/quickstart.yaml --jobs auto

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/mypy

test: lint
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-all: lint
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist loadfile

bench: setup
	@for file in benchmarks/*.py; do OMP_WAIT_POLICY=PASSIVE $(BIN)/python $$file || exit 1; done
