# Two commands matter: `make ablation` and `make test`. Each creates the environment in .venv when there is none.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# what `make ablation` runs, and where `make report` looks: override on the command line
OVERRIDES ?= scale=single
RUNS ?= runs
REPORT ?= report

.DEFAULT_GOAL := help
.PHONY: help install ablation test lint format report clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## create .venv and install the suite (the other targets do it when needed)

# The stamp is written last, so an interrupted installation is done again; a .venv that does not work is replaced.
$(INSTALLED): pyproject.toml constraints.txt
	@rm -f $@
	@works='import sys, pip; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -c "$$works" >/dev/null 2>&1; then \
	    for python in $(PYTHON) python3 python3.11 python3.12 python3.13; do \
	        if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$python; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then \
	        echo "The suite needs Python 3.11 or newer with the venv module; python3 is $$(python3 --version 2>&1)."; \
	        echo "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 2; \
	    fi; \
	    echo "Creating $(VENV) with $$($$found --version)"; \
	    $$found -m venv --clear $(VENV); \
	fi
	@echo "Installing the suite into $(VENV) (about 1.7 GB, once)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-input -e '.[dev]' -c constraints.txt
	@touch $@

ablation: $(INSTALLED)  ## train, score and time one variant of XingGAN++, then write a report; OVERRIDES="attention=plain" for another
	@$(BIN)/python -m ablations.run $(OVERRIDES)

# Two workers with one thread each: small tensors gain nothing from threads, and threads that share busy cores stall.
test: lint  ## check style and types, then run every test with coverage
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --cov=xinggan --cov=ablations --cov=reports --cov=baselines --cov=slurm \
	    --cov-report=term:skip-covered --cov-fail-under=90 --durations=40

lint: $(INSTALLED)  ## check style (ruff) and types (mypy)
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

format: $(INSTALLED)  ## put the code in the project's format
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

report: $(INSTALLED)  ## build the report from the run records in RUNS=runs
	@$(BIN)/python -m reports.build --runs "$(RUNS)" --out "$(REPORT)"

clean:  ## remove the report and the tools' caches; run records, packed data and .venv stay
	rm -rf "$(REPORT)" .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +
