# The whole workflow. Each target installs what it needs, once.
#   make compare            compare heads and decoders on toy data
#   make compare DATA=...   the same on COCO (a folder in COCO's layout)
#   make test               the tests that start no process, train and build nothing
#   make test-slow          the other tests
#   make benchmark          codecs against stock: at least a third of the aimed ratios
#   make coverage           all tests, and the lines of the package that they miss
#   make lint               ruff
#   make test-dist          the suite against the built wheel and sdist
#   make test-matrix        the suite with old, new and compiled dependencies
#   make docs               the documentation, in docs/_build/html
#   make venv               the install alone
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV_VERSION := 0.13.8
NOX := $(BIN)/uv tool run --with uv==$(UV_VERSION) nox==2026.10.20
DATA ?=

# glibc keeps memory that is freed, unless it was mapped: gigabytes of weights.
ENV := OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=4194304
# A run ends at a crash, where it might wait for the lost worker for ever.
PYTEST := pytest -n auto --max-worker-restart 0

.PHONY: compare test test-slow test-dist test-matrix benchmark coverage docs lint venv

compare: venv
	$(BIN)/python tools/compare.py $(if $(DATA),--data $(DATA)) $(ARGS)

test: venv
	$(ENV) $(BIN)/python -m $(PYTEST) -m 'not slow' $(ARGS)

test-slow: venv
	$(ENV) $(BIN)/python -m $(PYTEST) -m slow $(ARGS)

# Both run outside the repository, in environments of their own in .nox;
# ARGS go to pytest.
test-dist: venv
	$(NOX) --session reference sdist -- $(ARGS)

test-matrix: venv
	$(NOX) --session oldest reference newest compiled -- $(ARGS)

# Alone on the machine: beside other work its ratios mean nothing.
benchmark: venv
	$(BIN)/python tools/benchmark_codecs.py --check

coverage: venv
	$(BIN)/coverage erase
	$(ENV) $(BIN)/coverage run -m $(PYTEST) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

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
