# Every target bootstraps .venv by itself from plain python3; the second time no network is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
ARGS ?=

.PHONY: demo test check format lock bench kills chaos coverage clean

demo: $(READY)
	$(BIN)/regrow demo --kill $(ARGS)

test: $(TOOLS)
	$(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

check: $(TOOLS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

format: $(TOOLS)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Every benchmark beside its floor, a JSON line per metric; ARGS="--loop uvloop" measures on that loop, if it is installed.
bench: $(READY)
	$(BIN)/regrow bench --all --json $(ARGS)

# SIGKILL at 20 random moments; in the end the cards must be the same bytes as those of an undisturbed run.
kills: $(READY)
	$(BIN)/python bench/kill_and_compare.py $(ARGS)

# SIGKILL of the worker, the server or both under load from outside; then the whole history is checked against what clients were told.
chaos: $(READY)
	$(BIN)/python bench/chaos.py $(ARGS)

# The pure cores must be covered whole, branches included; tests/pure_cores.txt lists them.
coverage: $(TOOLS)
	$(BIN)/coverage run -m pytest -q $(ARGS)
	$(BIN)/coverage report
	$(BIN)/coverage report --fail-under=100 --include="$$(paste -sd, tests/pure_cores.txt)"

# What regrow runs on, and what it is tested with: exact versions with hashes, and no address of a registry.
lock: $(TOOLS)
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--extra cli --group build pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--all-extras --group build --group dev --constraint requirements.lock pyproject.toml --output-file requirements-dev.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("regrow needs Python 3.11 or newer; say which one to use with: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV) || { echo "python3 cannot make virtual environments here; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV) ..." >&2
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(READY)

$(TOOLS): $(READY) requirements-dev.lock
	@echo "installing the test tools into $(VENV) ..." >&2
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $(TOOLS)

clean:
	rm -rf $(VENV) .regrow dist
