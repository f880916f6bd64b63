# Everything needs only Python >= 3.11 and make: the first target that runs sets up .venv with pinned dependencies.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORK ?= work/models
READY := $(VENV)/.ready

.PHONY: demo test lint format docs bench models clean help

help:
	@echo "make demo    the whole pipeline on the embedded catalog (work/demo)"
	@echo "make test    all tests"
	@echo "make lint    ruff and mypy"
	@echo "make docs    the documentation site (build/site); python3 -m http.server -d build/site shows it"
	@echo "make bench   the benchmarks (benchmarks/RESULTS.md holds the last ones)"
	@echo "make models  the packaged models again, from MANIFEST (configs/packaged-models.yaml)"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mer-ray needs Python >= 3.11: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-input --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

demo: $(READY)
	$(BIN)/mer-ray run -c configs/demo.yaml

test: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not alone"
	$(BIN)/pytest -m alone $$(grep -l "mark.alone" tests/test_*.py)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(READY)
	$(BIN)/python benchmarks/pipeline.py

models: $(READY)
	@test -n "$(MANIFEST)" || { echo "name the labelled clips: make models MANIFEST=panda4q/manifest.csv"; exit 1; }
	$(BIN)/mer-ray run -c configs/packaged-models.yaml --workspace $(WORK) --set collect.manifest=$(MANIFEST)
	for pair in light:kernel-logmel+rhythm+tonal default:kernel-logmel+rhythm+tonal+musicnn; do \
	  name=$${pair%%:*} run=$${pair#*:}; folder=mer_ray/packaged_models/$$name; \
	  mkdir -p $$folder && cp $(WORK)/runs/$$run/model.json $(WORK)/runs/$$run/weights.safetensors $$folder && \
	  $(BIN)/python -c "from mer_ray.scoring.card import packaged_card as card; print(card('$(WORK)', '$$run', '$$name'), end='')" \
	    > $$folder/README.md || exit 1; \
	done

clean:
	rm -rf $(VENV) work build *.egg-info
