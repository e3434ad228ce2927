# setup        make .venv and install from constraints.txt; quiet when nothing changed
# quickstart   the whole job in miniature, then the table and the report
# test         style, types and the fast tests     test-all   the slow tests too
# test-transformers5   the fast tests on transformers 5, without the package adapters, in .venv-tf5

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
STAMP := .venv/.adapterstilts

# Known vulnerabilities of what we install; a service that cannot be reached is said and is no failure.
AUDIT := told=$$($(BIN)/pip-audit -r constraints.txt --no-deps --disable-pip --progress-spinner off 2>&1) || \
	case "$$told" in *"known vulnerabilit"*) echo "$$told"; exit 1;; *) echo "pip-audit: no answer from its service";; esac; \
	skipped=$$(echo "$$told" | grep -c "could not be audited"); \
	test $$skipped = 0 || echo "pip-audit: $$skipped packages are unknown to its service and were not audited"

.PHONY: setup quickstart test test-all test-transformers5 lint bench

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
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(AUDIT)

test: lint
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-all: lint
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist loadfile

# The constraints of this environment replace those of the same names in constraints.txt.
TF5 := .venv-tf5/bin/python
TF5_STAMP := .venv-tf5/.adapterstilts

$(TF5_STAMP): pyproject.toml constraints.txt constraints-transformers5.txt
	@test -x $(TF5) || $(PYTHON) -m venv .venv-tf5
	@echo "installing into .venv-tf5 (once; a few minutes)"
	@sed -n 's/==.*/==/p' constraints-transformers5.txt > .venv-tf5/replaced
	@grep -v -i -F -f .venv-tf5/replaced constraints.txt | cat - constraints-transformers5.txt > .venv-tf5/constraints
	@$(TF5) -m pip --disable-pip-version-check -qq install torch -c .venv-tf5/constraints
	@$(TF5) -m pip --disable-pip-version-check -qq install -e . pytest pytest-xdist hypothesis -c .venv-tf5/constraints
	@touch $@

test-transformers5: $(TF5_STAMP)
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(TF5) -m pytest -m "not slow" -n 2 --dist loadfile

bench: setup
	@for file in benchmarks/*.py; do OMP_WAIT_POLICY=PASSIVE $(BIN)/python $$file || exit 1; done
