# Two commands matter: `make demo` and `make test`. Both create .venv and install what is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test lint docs fix clean

demo: $(INSTALLED)
	$(BIN)/uex demo -o uex-demo --force

test: lint
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/generate.py --check

docs: $(INSTALLED)
	$(BIN)/python scripts/generate.py

fix: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist uex-demo .pytest_cache .mypy_cache .ruff_cache
