# Needs git, make and python3 >= 3.11. `make run` shows the daemon at work, `make test` runs what the gate runs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
JOBS ?= 2
UV ?= $(shell command -v uv || echo $(BIN)/uv)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.NOTPARALLEL:
.PHONY: help run test torture lint setup servers lock bench clean

help:
	@echo "make run      the daemon on a demo mailbox; Ctrl-C stops it"
	@echo "make test     linters and all tests, as the gate runs them"
	@echo "make torture  the tests that take long"
	@echo "make lint     ruff, mypy and import-linter alone"
	@echo "make setup    $(VENV) with everything that the two need"
	@echo "make lock     requirements.lock, anew from pyproject.toml"
	@echo "make bench    the measurements of bench/"
	@echo "make clean    removes $(VENV), var and caches"

run: $(INSTALLED)
	@$(BIN)/maillinkd demo

# pytest comes last, so that its closing line is the last one printed. A worker that dies ends the run.
test: servers lint
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal --max-worker-restart 0 $(PYTEST_ARGS)

torture: servers $(INSTALLED)
	@HYPOTHESIS_PROFILE=torture $(BIN)/python -m pytest -m torture -o faulthandler_timeout=3600 $(PYTEST_ARGS)

lint: $(INSTALLED)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/mypy bench
	@$(BIN)/lint-imports

bench: servers $(INSTALLED)
	@tests/system/servers.sh isync notmuch offlineimap3
	@for script in bench/sync.py bench/receive.py bench/parse.py bench/resync.py bench/latency.py bench/idle.py bench/smtp.py bench/dot.py bench/items.py bench/linker.py bench/simulate.py; do test ! -e $$script || $(BIN)/python $$script || exit; done

setup: $(INSTALLED)

# As root on Debian and Ubuntu this installs them; elsewhere the tests that miss one are skipped by name.
servers:
	@tests/system/servers.sh dovecot-imapd cyrus-imapd postgresql postfix swaks strace systemd openssl procps

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "maillinkd needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tests/system/servers.sh python3-venv
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

# Nothing but what the lock file names, by hash; the build backend too, hence no isolation.
$(INSTALLED): pyproject.toml requirements.lock | $(VENV)/pyvenv.cfg
	@$(PIP) install --require-hashes --only-binary :all: -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# Without addresses of package indexes: whoever installs uses his own (docs/decisions/0001-lock-file.md).
lock: | $(VENV)/pyvenv.cfg
	@command -v $(UV) >/dev/null || $(PIP) install uv
	@$(UV) pip compile pyproject.toml --quiet --output-file requirements.lock --universal --python-version 3.11 \
		--all-extras --group dev --generate-hashes --no-header --no-emit-index-url --no-emit-find-links

clean:
	rm -rf $(VENV) var dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
