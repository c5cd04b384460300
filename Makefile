# One command, the same everywhere. `demo` and `test` do all the set-up on a fresh machine.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DONE := $(VENV)/.installed

.PHONY: demo test test-fast nightly check site format clean

demo: $(VENV)/.demo
	$(BIN)/equipoise demo

test: $(DONE)
	$(BIN)/pytest -n 2 --dist worksteal -m "not nightly"

# without the tests marked slow: claims as programs, kills and resumes, several processes, every method in text
test-fast: $(DONE)
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow and not nightly"

# all tests, then the objectives with one sign, term or constant changed at a time: some test must fail for each
nightly: $(DONE)
	$(BIN)/pytest -n 2 --dist worksteal
	$(BIN)/python tests/mutation/mutate.py

# the documentation, with every link between pages checked
site: $(DONE)
	rm -rf build/pages build/site
	mkdir -p build/pages
	git ls-files -z '*.md' '*.yaml' docs/figures examples benchmarks | xargs -0 cp --parents -t build/pages
	$(BIN)/zensical build --clean --strict

# Checking never edits; `make format` does.
check: $(DONE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DONE)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# the package alone, for the demo
$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $(VENV)/.demo

$(DONE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(DONE)

clean:
	rm -rf $(VENV) build dist *.egg-info
