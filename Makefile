# Everything needs only Python >= 3.11 and make: the first target that runs sets up .venv with pinned dependencies.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint format bench clean help

help:
	@echo "make demo    the whole pipeline on the embedded catalog (work/demo)"
	@echo "make test    all tests"
	@echo "make lint    ruff and mypy"
	@echo "make bench   the benchmarks (benchmarks/RESULTS.md holds the last ones)"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mer-ray needs Python >= 3.11: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-input --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/mer-ray run -c configs/demo.yaml

test: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not alone"
	$(BIN)/pytest -m alone

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python benchmarks/pipeline.py

clean:
	rm -rf $(VENV) work build *.egg-info
