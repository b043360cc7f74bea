# Everything a person does with this checkout. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTEST ?=
BENCH ?=

.PHONY: help setup demo test unit check format bench package lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  \1|\2/' | awk -F '|' '{ printf "%-10s %s\n", $$1, $$2 }'

setup: ## Install what is missing; leaves the command at .venv/bin/ecs-agent
	@scripts/setup

demo: setup ## Run a task of two containers and watch it from start to end
	@.venv/bin/python scripts/with-engine .venv/bin/python scripts/demo.py

test: setup ## Run the whole test suite against a real Docker Engine
	@.venv/bin/python scripts/with-engine .venv/bin/python -m pytest $(PYTEST)

unit: setup ## Run the tests that need neither root nor an engine
	@.venv/bin/python -m pytest -m "not integration" $(PYTEST)

check: setup ## Lint, check formatting and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: setup ## Format the code
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

bench: setup ## Measure against the Docker Engine itself
	@.venv/bin/python scripts/with-engine .venv/bin/python -m tests.bench $(BENCH)

package: setup ## Build wheel and source distribution into dist/
	.venv/bin/python -m build --no-isolation --outdir dist .

lock: setup ## Write the lock files anew with the newest releases
	@scripts/lock

clean: ## Remove everything that was built here, the virtual environment too
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find agent tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
