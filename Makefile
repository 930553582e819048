# Every target sets itself up in .venv; nothing has to be installed by hand.
SHELL := /bin/bash
HERE := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
VENV := $(HERE).venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint $(HERE)constraints.txt
# optimum wants an older transformers than training does: an environment of its own, and its own pins before ours.
OPTIMUM := $(HERE).venv-optimum
OPTIMUM_PIP := $(OPTIMUM)/bin/python -m pip --disable-pip-version-check install --quiet --constraint $(OPTIMUM)/constraints.txt

.PHONY: sentiment serve test test-optimum check format bench clean

sentiment: $(VENV)/.all
	cd $(HERE) && $(BIN)/python -m hybrid.recipe sentiment $(ARGS)

# Another bundle: make serve BUNDLE=path ARGS='--port 9000'
BUNDLE ?= $(HERE)runs/sentiment/embedded/bundle
serve: $(VENV)/.all
	@test -f '$(BUNDLE)/bundle.json' || { echo "$(BUNDLE): no bundle; make one with 'make sentiment', or name one with BUNDLE=..."; exit 2; }
	$(BIN)/python -m serving '$(BUNDLE)' $(ARGS)

test: $(VENV)/.dev
	cd $(HERE) && $(BIN)/python -m pytest $(ARGS)

test-optimum: $(OPTIMUM)/.optimum
	cd $(HERE) && $(OPTIMUM)/bin/python -m pytest tests/optimum $(ARGS)

check: $(VENV)/.dev
	cd $(HERE) && $(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

format: $(VENV)/.dev
	cd $(HERE) && $(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	cd $(HERE) && for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || failed=1; done; exit $${failed:-0}

clean:
	rm -rf $(VENV) $(OPTIMUM) $(HERE)runs $(HERE)dist

$(VENV)/.python $(OPTIMUM)/.python:
	@echo "Setting up $(@D) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is too old: want Python 3.11 or later, name one with PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(@D)
	touch $@

$(VENV)/.all: $(VENV)/.python $(HERE)pyproject.toml $(HERE)constraints.txt
	@echo "Installing packages (about three minutes the first time) ..."
	$(PIP) torch
	$(PIP) --editable '$(HERE)[all]'
	touch $@

$(VENV)/.dev: $(VENV)/.all
	$(PIP) --editable '$(HERE)[dev]'
	touch $@

$(OPTIMUM)/.optimum: $(OPTIMUM)/.python $(HERE)pyproject.toml $(HERE)constraints.txt $(HERE)constraints-optimum.txt
	@echo "Installing packages (about three minutes the first time) ..."
	awk -F== 'NR == FNR { own[tolower($$1)]; print; next } !(tolower($$1) in own)' \
		$(HERE)constraints-optimum.txt $(HERE)constraints.txt > $(OPTIMUM)/constraints.txt
	$(OPTIMUM_PIP) torch
	$(OPTIMUM_PIP) --editable '$(HERE)[optimum]' pytest
	touch $@
