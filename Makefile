# Every target sets up what it needs in .venv. PIP_ARGS is handed to pip (an index of your own, say).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q

.PHONY: demo test test-all check bench clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("sfumato needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	touch $(STAMP)

demo: $(STAMP)  ## train, attack and compare on bundled data; writes demo/report.html
	$(BIN)/sfumato demo --out demo

test: $(STAMP)  ## the quick tests, at most 10 minutes on 2 cores
	$(PYTEST) -m "not slow and not statistical and not browser"

test-all: $(STAMP)  ## the slow, statistical and browser tests
	$(PYTEST) -m "slow or statistical or browser"

check: $(STAMP)  ## format, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(STAMP)  ## speed of shadow models and power of attacks, as JSON
	$(BIN)/python benchmarks/shadow_models.py --json
	$(BIN)/python benchmarks/attack_power.py --json

clean:  ## remove the virtual environment and what the demo wrote
	rm -rf $(VENV) demo
