# Works with GNU make 3.81 (macOS) and newer. `make` alone lists the targets.

PYTHON ?= python3
PORT   ?= 8000
DATA   ?= data

PY  := .venv/bin/python
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore $(PY) -m pip install -qq

# A stamp is the last thing an installation writes: without it .venv is taken for half-made and made anew.
RUNTIME := .venv/.runtime-installed
DEV     := .venv/.dev-installed

.DEFAULT_GOAL := help
.PHONY: help .venv run test test-clients mutants bench lint check format lock clean

help:
	@echo 'Run it'
	@echo '  make run      clinic with demo data at http://127.0.0.1:8000   [PORT=8001] [DATA=/elsewhere]'
	@echo '  make .venv    install only                                    [PYTHON=python3.12]'
	@echo
	@echo 'Work on it'
	@echo '  make test     all tests                                       [ARGS="-k book -x"]'
	@echo '  make test-clients  FHIR clients that others wrote, against a running server (needs Node 20)'
	@echo '  make mutants  take each wall down and see which test misses it  [ARGS=policy]'
	@echo '  make bench    how quick it is, through the real server        [ARGS="--clinicians 1000 --past 280000"]'
	@echo '  make lint     format, lint, types, import contracts'
	@echo '  make check    lint, then test: before a change is done'
	@echo '  make format   put the code into shape'
	@echo '  make lock     resolve both lock files again                   [UPGRADE=1]'
	@echo '  make clean    remove .venv and caches; your data stays'

run: $(RUNTIME)
	@exec .venv/bin/medical run --demo --port "$(PORT)" --data "$(DATA)"

test-clients: $(DEV)
	@test -e .venv-clients || $(PYTHON) -m venv .venv-clients
	@PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-clients/bin/python -m pip install -qq -r tests/clients/requirements.txt
	@npm install --prefix tests/clients --no-package-lock --no-audit --no-fund --silent
	@PYTHONPATH=. $(PY) tests/clients/run.py .venv-clients/bin/python

mutants: $(DEV)
	@$(PY) tools/mutants.py $(ARGS)

bench: $(DEV)
	@$(PY) -m tools.bench $(ARGS)

test: $(DEV)
	@$(PY) -m pytest -n auto --dist worksteal $(ARGS)

lint: $(DEV)
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-logo

check: lint
	@$(MAKE) --no-print-directory test

format: $(DEV)
	@$(PY) -m ruff check --fix-only .
	@$(PY) -m ruff format .

clean:
	rm -rf .venv .venv-clients tests/clients/node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis dist
	find medical migrations tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Installing

.venv: $(RUNTIME)

$(RUNTIME): requirements.lock pyproject.toml
	@test -e $@ && $(PY) -c '' 2>/dev/null || { $(make_venv); }
	@echo 'Installing into .venv …'
	@rm -f $(RUNTIME) $(DEV)
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): requirements-dev.lock $(RUNTIME)
	@echo 'Installing the development tools into .venv …'
	@rm -f $(RUNTIME) $(DEV)
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $(RUNTIME) $@

# The first Python that is new enough makes .venv; a candidate may exist and still not run (pyenv shims).
make_venv = \
    for py in "$(PYTHON)" python3.13 python3.12 python3.11 python3.14; do \
        "$$py" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; py=; \
    done; \
    if [ -z "$$py" ]; then \
        echo "Medical Backend needs Python 3.11 or newer and found none: install it, or name it with" \
            "make PYTHON=/path/to/python3.12" >&2; exit 1; \
    fi; \
    if ! "$$py" -c 'import ensurepip, venv' 2>/dev/null; then \
        v=$$("$$py" -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); \
        echo "$$v lacks its venv module: install it (Debian and Ubuntu: apt-get install $$v-venv)," \
            "then run make again" >&2; exit 1; \
    fi; \
    echo "Making .venv with $$("$$py" --version) …"; \
    "$$py" -m venv --clear .venv || exit 1

# The resolver is a tool of its own, so it stays out of the locks. The build backend goes in:
# the project itself is installed without build isolation. The runtime lock takes the versions of the other.
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        $(if $(UPGRADE),--upgrade)

lock: $(RUNTIME)
	@$(PIP) uv
	@echo flit_core | $(PY) -m uv pip compile $(LOCK) --extra dev -o requirements-dev.lock pyproject.toml -
	@echo flit_core | $(PY) -m uv pip compile $(LOCK) --constraint requirements-dev.lock -o requirements.lock pyproject.toml -
	@if grep -n '://' requirements.lock requirements-dev.lock; then echo 'An address is in a lock file.' >&2; exit 1; fi
