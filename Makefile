# People and CI use the same targets. `make quickstart` and `make test` are the two to know.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BENCH ?= --resume # go on with an interrupted bench; `make bench BENCH=` starts anew
INSTALLED := $(VENV)/.installed

.PHONY: setup quickstart tour test test-slow check bench clean

setup: $(INSTALLED) ## install into .venv, and convert the model that the quickstart trains
	$(BIN)/python -c "from safetyvalve.models import resolve; print('model:', resolve('smollm2-135m'))"

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

quickstart: setup ## align a model by DPO and by RPO on the same data, and report (five to ten minutes)
	$(BIN)/safetyvalve quickstart

tour: setup ## the whole road, from data to a decision, with scripted annotators (under twenty minutes)
	$(BIN)/safetyvalve tour

test: $(INSTALLED) ## the default suite
	$(BIN)/pytest

test-slow: setup ## training runs on the real model, and the browser
	$(BIN)/pytest -m slow

check: $(INSTALLED) ## format, lint, strict types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/make_cli_page.py --check

bench: setup ## speed and memory against TRL, compared with the record; wants the machine to itself for half an hour
	$(BIN)/python -m benchmarks.speed $(BENCH)
	$(BIN)/python -m benchmarks.speed.table

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
