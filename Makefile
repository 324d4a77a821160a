# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What is installed for tests; CI installs what notebooks need with it.
EXTRAS := test

.PHONY: demo test lint types pytest bench notebooks clean

demo: $(VENV)/.installed
	$(BIN)/softmatch demo --output demo-out --overwrite

test: lint types pytest

pytest: lint
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(VENV)/.tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.tested
	$(BIN)/mypy

bench: $(VENV)/.tested
	$(BIN)/python bench/accuracy.py
	$(BIN)/python bench/speed.py
	$(BIN)/python bench/matching.py
	$(BIN)/python bench/decoder.py
	$(BIN)/python bench/image_encoder.py
	$(BIN)/python bench/pipeline.py
	$(BIN)/python bench/evaluation.py
	$(BIN)/python bench/promptable.py --generator tiny
	$(BIN)/python bench/training.py
	$(BIN)/python bench/prosam.py
	$(BIN)/python bench/project_store.py
	$(BIN)/python bench/serve.py

# Executes the notebooks in their small setting.
notebooks: $(VENV)/.noted
	$(BIN)/python -m pytest tests/notebooks -m "slow or not slow" -n 2

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Installed again only when the requirements change; the sources are used in place.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.tested: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	touch $(VENV)/.installed $@

$(VENV)/.noted: $(VENV)/.tested
	$(BIN)/python -c "import jupytext, nbmake, matplotlib" 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,notebooks]"
	touch $@

clean:
	rm -rf $(VENV) demo-out
