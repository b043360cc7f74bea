# Everything a person does with this checkout. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTEST ?=
# How many hosts of their own (scripts/own-host) run the tests side by side: more than processors,
# since many tests wait for an engine or for a time. Each takes about 400 MB of memory.
HOSTS ?= $(shell echo $$(($$(nproc) + 2)))
# How many processes run the unit tests.
WORKERS ?= $(shell nproc)
# How many files of test-vm run side by side, each with VMs of its own: 0 is one after the other, with
# live log lines and --pdb. An emulated VM takes a processor, and a file up to 6 GiB of memory.
VMS ?= $(shell awk -v most=$$(nproc) \
  '/MemAvailable/ { n = int($$2 / 6291456); print n < 1 ? 1 : n < most ? n : most }' /proc/meminfo)
BENCH ?=
# What make chaos breaks comes from SEED; CHAOS is for other options, such as --json, FUZZ for those of make fuzz.
SEED ?= 1
MINUTES ?= 5
CHAOS ?=
FUZZ ?=
PACKAGE ?=
# A file: if few tests fail, they run once more by themselves, and what came of it is added to it.
AGAIN ?=
again = $(if $(AGAIN),scripts/again --note '$(AGAIN)' $(1) --)

# Tests start thousands of processes of this checkout. Without bytecode each would compile the agent
# anew: a second of a processor for each agent.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup tools demo test test-vm vm-disk unit check docs format bench bench-fleet chaos fuzz package lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | awk -F '|' '{ printf "%-11s %s\n", $$1, $$2 }'

setup: ## Install what is missing; leaves the command at .venv/bin/ecs-agent
	@scripts/setup

tools: # What make check and make test need besides
	@scripts/setup --tools

demo: setup ## Run a task of two containers and watch it from start to end
	@.venv/bin/python scripts/with-engine .venv/bin/python scripts/demo.py

# Integration tests take longest: they begin, and unit tests fill up the end.
test: tools ## Run the whole test suite, on hosts of their own with a real Docker Engine each
	@.venv/bin/python packaging/build --fetch
	@$(call again,'scripts/own-host .venv/bin/python -m pytest') \
	  .venv/bin/python -m pytest --dist loadfile --no-loadscope-reorder --durations=25 --durations-min=5 \
	  --tx '$(HOSTS)*popen//python=scripts/own-host .venv/bin/python' \
	  $(if $(findstring tests/,$(PYTEST)),,tests/integration tests/unit) $(PYTEST)

test-vm: vm-disk ## Boot Debian hosts in qemu and test the package of this commit in them
	@$(MAKE) --no-print-directory package PACKAGE="--arch amd64 --only wheel --only deb"
	@$(call again,--files --most 2 '.venv/bin/python -m pytest --log-cli-level=INFO $(filter-out tests/%,$(PYTEST))') \
	  .venv/bin/python -m pytest $(if $(findstring tests/,$(PYTEST)),,tests/vm) -n $(VMS) --dist loadfile --log-cli-level=INFO \
	  --durations=15 --durations-min=20 $(PYTEST)

vm-disk: setup # The disk that the hosts of test-vm are booted from; minutes, once
	@scripts/setup-vm
	@.venv/bin/python -m tests.vm.base >/dev/null

unit: setup ## Run the tests that need neither root nor an engine
	@$(call again,'.venv/bin/python -m pytest') \
	  .venv/bin/python -m pytest $(if $(findstring tests/,$(PYTEST)),,tests/unit) -m "not integration" \
	  -n $(WORKERS) --dist loadfile --durations=15 --durations-min=5 $(PYTEST)

check: tools ## Lint, check formatting, types, shell scripts, what is tracked, and what is installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	@scripts/check-shell
	@scripts/check-tree
	@.venv/bin/python scripts/check-locks
	@.venv/bin/python scripts/audit

docs: tools ## Write the parts of docs/ that are made from the code
	@WRITE_DOCS=1 .venv/bin/python -m pytest -q tests/unit/config/test_documentation.py \
	  tests/unit/controlplane/test_documentation.py

format: setup ## Format the code
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

bench: setup ## Measure against the Docker Engine itself
	@.venv/bin/python scripts/with-engine .venv/bin/python -m tests.bench $(BENCH)

bench-fleet: setup ## Measure control with up to ten thousand simulated hosts
	@.venv/bin/python -m tests.bench.fleet $(BENCH)

chaos: setup ## Break control, agents, engine and host at random while they work
	@scripts/own-host --no-engine .venv/bin/python -m tests.chaos --seed $(SEED) --minutes $(MINUTES) $(CHAOS)

fuzz: setup ## Throw odd input at every decoder, API and address, MINUTES=… for each family
	@.venv/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes --requirement requirements-fuzz.lock
	@.venv/bin/python -m tests.fuzz --minutes '$(MINUTES)' $(FUZZ)

package: setup ## Build .deb, .rpm sources and wheel into dist/, for amd64 and arm64
	@.venv/bin/python packaging/build $(PACKAGE)

lock: setup ## Write the lock files anew with the newest releases
	@scripts/lock

clean: ## Remove everything that was built here, the virtual environment too
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find agent tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
