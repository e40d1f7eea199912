# Everything sets itself up: a machine with Python 3.11, make and the package registries is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# What runs scripts on the simulated host of the demo: builtin, or pwsh (a real PowerShell).
ENGINE ?= builtin

# Processes that the tests run in: more than there are cores, since most tests wait for others. Those of one file stay
# together, so what they share is started once; in the order of their names, so that the long ones come early.
JOBS ?= 4

# How many calls `make fuzz` makes with each role.
CALLS ?= 10000

# Tests and the demo start some thousand processes: each would compile all of snapshotd anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo seed sandbox bench profile test test-fast fuzz check fmt lint types imports purity protos verify-protos breaking diagrams verify-diagrams lock man wheel wheel-check clean

help: ## Show what there is to do
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

$(STAMP): requirements/dev.txt pyproject.toml
	@echo "Setting up $(VENV), once:"
	@test -x $(BIN)/python || { echo "  a virtual environment"; $(PYTHON) -m venv $(VENV); }
	@echo "  the locked dependencies (about a minute)"
	@$(BIN)/pip install -qq --require-hashes -r requirements/dev.txt
	@echo "  snapshotd itself"
	@$(BIN)/pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## Run the main job on a simulated host (ENGINE=builtin, or pwsh)
	$(BIN)/python -m demo.main_job --engine $(ENGINE)

seed: $(STAMP) ## Type the seed's test list on a simulated host, checked against its truth (ENGINE=builtin, or pwsh)
	$(BIN)/python -m demo.seed --engine $(ENGINE)

sandbox: $(STAMP) ## Start a simulated host and snapshotd to play with; Ctrl-C ends it (ENGINE=builtin, or pwsh)
	@$(BIN)/python -m demo.sandbox --engine $(ENGINE)

bench: $(STAMP) ## Measure all that docs/performance.md tells (ONLY="creates appends"; BENCH=full: 10 million events; BESIDE=commit)
	BENCH=$(BENCH) $(BIN)/python -m $(if $(BESIDE),benchmarks.beside $(BESIDE),benchmarks $(ONLY))

profile: $(STAMP) ## Print where the processor time of a create goes
	$(BIN)/python -m benchmarks profile

test: $(STAMP) ## Run all tests, in JOBS processes
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

test-fast: $(STAMP) ## Run the tests for the inner loop, in JOBS processes: those of parts, without the slow ones
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile -m "not slow" tests/unit tests/contract

fuzz: $(STAMP) ## Make CALLS random calls with each role, and check that none shows or records what it must not
	SNAPSHOTD_FUZZ_CALLS=$(CALLS) $(BIN)/pytest -s tests/integration/test_fuzzed_roles.py

check: fmt-check lint types imports purity verify-protos breaking verify-diagrams ## Run all that CI checks but the tests

fmt: $(STAMP) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

.PHONY: fmt-check
fmt-check: $(STAMP)
	$(BIN)/ruff format --check .

lint: $(STAMP) ## Lint the code and the protos
	$(BIN)/ruff check .
	@mkdir -p build
	$(BIN)/python -m tools.protos describe build/protos.binpb
	$(BIN)/buf lint build/protos.binpb

types: $(STAMP) ## Check the types
	$(BIN)/mypy

imports: $(STAMP) ## Check that imports point one way
	$(BIN)/lint-imports --no-logo

purity: ## Check that the core imports no clock, randomness or I/O
	@! grep -rnE "^\s*(import|from) (grpc|winrm|sqlite3|time|random|uuid|asyncio)" \
	  snapshotd/domain snapshotd/steps snapshotd/operations snapshotd/application snapshotd/dispatch

protos: $(STAMP) ## Generate snapshotd/api/v1 from protos/
	$(BIN)/python -m tools.protos write

verify-protos: $(STAMP) ## Fail if the generated code is stale
	$(BIN)/python -m tools.protos verify

breaking: $(STAMP) ## Fail if the protos break callers of the last release (before there is one: of main)
	$(BIN)/python -m tools.breaking

diagrams: $(STAMP) ## Draw the lifecycles and the roles into docs/
	$(BIN)/python -m tools.diagrams write
	$(BIN)/python -m tools.roles_table write

verify-diagrams: $(STAMP) ## Fail if what make diagrams draws is stale
	$(BIN)/python -m tools.diagrams verify
	$(BIN)/python -m tools.roles_table verify

lock: ## Lock the dependencies of pyproject.toml, with hashes
	bash tools/lock.sh

man: $(STAMP) ## Write the manual pages into build/man
	$(BIN)/python -m snapshotd man build/man

wheel: man ## Build dist/*.whl; beside it the locked versions (requirements*.txt)
	rm -rf dist build/lib build/bdist.*
	$(BIN)/pip wheel -qq --no-deps --no-build-isolation --wheel-dir dist .
	cp requirements/runtime.txt dist/requirements.txt
	cp requirements/extras.txt dist/requirements-extras.txt

wheel-check: wheel ## Install the wheel into a fresh environment with the locked versions, and run it
	$(BIN)/python -m tools.wheel_check

clean: ## Remove what was installed and generated here
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
