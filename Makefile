# `make` lists the targets. The logic is in Python (manage.py, genplatform/stack); this file only installs and calls.
.DEFAULT_GOAL := help
.PHONY: help demo up test check audit bench chaos lock

# The first interpreter that is new enough; PYTHON=… overrides it.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for it in python3 python3.13 python3.12 python3.11; do \
	command -v $$it >/dev/null && $$it -c '$(NEW_ENOUGH)' && echo $$it && break; done)
BIN := .venv/bin
# uv installs in seconds; pip installs the same hash-locked files where uv is absent.
UV := $(shell command -v uv || { [ -x $(BIN)/uv ] && echo $(BIN)/uv; })
# Development defaults (secrets, loopback targets). `check --deploy` below runs without them.
export DEBUG := 1
export PYTHONUNBUFFERED := 1

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(BIN)/.local ## Run one job through the whole platform, then stop (under two minutes)
	@$(BIN)/python manage.py demo

up: $(BIN)/.local ## Run the whole platform until Ctrl-C; keeps its data in .run/
	@$(BIN)/python manage.py up

# In the order of their folders: the few long tests of chaos would else come last, on one core.
test: $(BIN)/.dev ## Run the tests on their own Postgres and Redis (ARGS="-k name" narrows)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(BIN)/.dev ## Format, lint, types, layers, migrations, deployment settings, known vulnerabilities
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	PYTHONPATH=. $(BIN)/lint-imports
	DB_POOL_MAX=0 LOG_LEVEL=ERROR $(BIN)/python -W ignore manage.py makemigrations --check --dry-run
	DEBUG=0 SECRET_KEY=$(LONG) API_KEY_PEPPER=$(LONG) WEBHOOK_SIGNING_KEY=$(LONG) \
	PUBLIC_URL=https://gen.example ALLOWED_HOSTS=gen.example \
		$(BIN)/python manage.py check --deploy --fail-level WARNING
	@$(MAKE) --no-print-directory audit

# pip-audit leaves with 1 both for a vulnerability (a table on stdout) and for an unreachable service (no table).
audit: $(BIN)/.dev
	@echo "pip-audit: asking about known vulnerabilities"; mkdir -p .run; \
	if found=$$($(BIN)/pip-audit --disable-pip --require-hashes -r requirements/base.txt \
		--timeout 5 --progress-spinner off 2>.run/audit.log); then echo "pip-audit: none known"; \
	elif [ -n "$$found" ]; then echo "$$found"; exit 1; \
	else echo "pip-audit: skipped, no answer ($$(tail -n 1 .run/audit.log | cut -c1-120))"; fi

bench: $(BIN)/.dev ## Measure CPU and latency per job beside a bare baseline
	@$(BIN)/python -m tests.benchmarks $(ARGS)

chaos: $(BIN)/.dev ## Break things under a running stack and count the money afterwards
	@$(BIN)/python -m pytest tests/chaos tests/properties tests/concurrency/test_budgets.py \
		tests/ledger/test_caps.py -m '' $(ARGS)

lock: ## Resolve requirements/*.in again into hash-locked *.txt (needs uv)
	@[ -n "$(UV)" ] || { echo "make lock needs uv: https://docs.astral.sh/uv"; exit 1; }
	@for set in base local semantic clip nsfw dev; do \
		$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
			--custom-compile-command "make lock" --excludes requirements/excludes.txt \
			requirements/$$set.in -o requirements/$$set.txt && \
		echo "requirements/$$set.txt"; done
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" requirements/litellm.in -o requirements/litellm.txt && \
		echo "requirements/litellm.txt"

# Sixty characters of enough variety for Django's own check of SECRET_KEY. Protects nothing.
LONG := only-for-make-check-0123456789abcdefghijklmnopqrstuvwxyz-ABC

# The locks are complete, so nothing else is resolved: see requirements/excludes.txt.
# One stamp per locked set; each holds the interpreter that made the environment.
$(BIN)/.local $(BIN)/.dev: $(BIN)/.%: requirements/%.txt | $(BIN)/python
	@echo "Installing $< into .venv (a minute or two the first time)"
	@if [ -n "$(UV)" ]; then VIRTUAL_ENV=.venv $(UV) pip install --no-deps --require-hashes -r $<; \
	else $(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r $<; fi
	@touch $@

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "genplatform needs Python 3.11 or newer; python3 on PATH is older or missing."; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@if [ -n "$(UV)" ]; then $(UV) venv --quiet --python "$$(command -v $(PYTHON))" .venv; else $(PYTHON) -m venv .venv; fi
