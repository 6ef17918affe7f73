# The whole workflow. Each target installs what it needs, once.
#   make compare            compare heads and decoders on toy data
#   make compare DATA=...   the same on COCO (a folder in COCO's layout)
#   make test               the whole test suite
#   make test-dist          the suite against the built wheel and sdist
#   make test-matrix        the suite with old, new and compiled dependencies
#   make docs               the documentation, in docs/_build/html
#   make venv               the install alone
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV_VERSION := 0.13.8
DATA ?=

.PHONY: compare test test-dist test-matrix docs lint venv

compare: venv
	$(BIN)/python tools/compare.py $(if $(DATA),--data $(DATA)) $(ARGS)

test: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --max-worker-restart 0 $(ARGS)

# Both run outside the repository, in environments of their own in .matrix;
# ARGS go to pytest.
test-dist: venv
	$(BIN)/python .ci/matrix.py reference sdist -- $(ARGS)

test-matrix: venv
	$(BIN)/python .ci/matrix.py -- $(ARGS)

docs: venv
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

venv: $(STAMP)

# uv installs the pinned set several times as fast as pip. `--no-deps`, since
# requirements.txt is complete, and MMPose's opencv-python would need libGL
# where opencv-python-headless does not. chumpy (MMPose lists it) builds only
# without isolation. `setup.py develop`, since mim does not find what
# `pip install -e` installs (it has no egg-link); it warns that it is old.
$(STAMP): requirements.txt setup.py
	@echo '== Installing into $(VENV): a few minutes at most'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install \
		$$(grep -E '^(pip|setuptools|wheel)==' requirements.txt)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --no-deps \
		--no-build-isolation-package chumpy -r requirements.txt
	PYTHONWARNINGS=ignore $(BIN)/python setup.py --quiet develop --no-deps
	@touch $@
