# Everything a contributor needs: `make help` lists it. Works on a fresh machine with Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?=
SOURCES := data_prep genodiff imaging tests

# The names in a dependency group. `pip install --group` needs pip 25.1; reading the table works with every pip.
GROUP = $(BIN)/python -c 'import sys, tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"][sys.argv[1]])'

.DEFAULT_GOAL := help
.PHONY: help venv test test-workflows lint format demo docs man dist clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP)  ## Create .venv and install the project with its test tools

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "genodiff needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamp is newer than both files only after an installation that succeeded, so nothing is installed twice.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[sim]' $$($(GROUP) test)
	@touch $@

# Ruff and mypy are wanted by contributors only, so `make test` does not wait for them.
$(VENV)/.linted: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt $$($(GROUP) lint)
	@touch $@

# Two workers fit into 8 GB; files are not split between them, so that each sets up what its tests share once.
test: $(STAMP)  ## Run all tests (PYTEST_ARGS='-k report' narrows them)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

# Snakemake brings some forty packages, so that the default suite does without and skips these.
test-workflows: $(STAMP)  ## Run the Snakemake workflows on tiny inputs; needs bcftools, takes minutes
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[sim,workflows]'
	$(BIN)/python -m pytest tests/test_workflows.py $(PYTEST_ARGS)

lint: $(VENV)/.linted  ## Check style and types
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: $(VENV)/.linted  ## Rewrite the sources in the house style
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

demo: $(STAMP)  ## Synthesize the embedded example and say where the report is
	$(BIN)/genodiff synthesize genodiff/data/example.vcf.gz --panel genodiff/data/example.panel.tsv \
		-o demo --preset fast --force
	@echo "Report: file://$(CURDIR)/demo/report.html"

$(VENV)/.documented: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt $$($(GROUP) docs)
	@touch $@

# Names that are imported when first asked for are none to pdoc until somebody has asked.
define API
import genodiff, pathlib, pdoc
for name in genodiff.__all__:
    getattr(genodiff, name)
pdoc.render.configure(docformat="google", search=False)
pdoc.pdoc("data_prep", "genodiff", "imaging", output_directory=pathlib.Path("build/docs"))
endef
export API

docs: $(VENV)/.documented  ## Write the API reference to build/docs
	$(BIN)/python -W error -c "$$API"
	@echo "API: file://$(CURDIR)/build/docs/index.html"

man: $(VENV)/.documented  ## Write manual pages to build/man
	mkdir -p build/man
	$(BIN)/click-man genodiff --target build/man

dist: $(STAMP)  ## Build wheel and source distribution, without a network
	rm -rf build/lib build/bdist.* dist
	$(BIN)/python -m build --no-isolation

clean:  ## Remove caches, builds and the demo's output; .venv stays
	rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
