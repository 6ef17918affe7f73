# The whole workflow. Each target installs what it needs, once.
#   make compare            compare heads and decoders on toy data
#   make compare DATA=...   the same on COCO (a folder in COCO's layout)
#   make test               the tests that start no process, train and build nothing
#   make test-slow          the other tests
#   make benchmark          speed of codecs against stock; fails below a third of the aims
#   make coverage           all tests, and the lines of the package that they miss
#   make lint               ruff
#   make test-dist          the suite against the built wheel and sdist
#   make test-matrix        the suite with old, new and compiled dependencies
#   make walk               the workflow with the oldest and the newest packages
#   make docs               the documentation, in docs/_build/html
#   make venv               the install alone
#   make venv TORCH=cpu     the same without 4 GB of CUDA libraries
#   make lock               newer versions into requirements.txt
PYTHON ?= python3
TORCH ?=
LEFT_OUT := $(if $(filter cpu,$(TORCH)),^(nvidia-|cuda-|triton),^\#)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip
UV_VERSION := $(shell sed -n 's/^uv==//p' requirements.txt)
NOX := $(BIN)/nox
DATA ?=

# Blocks of 4 MB and more are mapped, so that glibc returns them to the system when they are
# freed: otherwise gigabytes of weights stay.
ENV := OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=4194304
# When a worker crashes, the run ends: xdist may wait for its replacement for ever.
PYTEST := pytest -n auto --max-worker-restart 0

.PHONY: compare test test-slow test-dist test-matrix walk benchmark coverage docs lint lock venv

compare: venv
	$(BIN)/python tools/compare.py $(if $(DATA),--data $(DATA)) $(ARGS)

test: venv
	$(ENV) $(BIN)/python -m $(PYTEST) -m 'not slow' $(ARGS)

test-slow: venv
	$(ENV) $(BIN)/python -m $(PYTEST) -m slow $(ARGS)

# These two run outside the repository, in environments of their own in .nox; ARGS go to pytest.
test-dist: venv
	$(NOX) --session reference sdist -- $(ARGS)

test-matrix: venv
	$(NOX) -- $(ARGS)

walk: venv
	$(NOX) --session walk client

# To be run alone on the machine: beside other work its ratios mean nothing.
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

# Everything comes from wheels, installed by uv, which is several times as fast as pip.
# requirements.txt is complete: `--no-deps`. mim looks for the package in the folder where packages
# are installed, where an editable install has no files: a link there leads to this clone.
$(STAMP): requirements.txt setup.py
	@echo '== Installing into $(VENV): a few minutes at most'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	grep -vE '$(LEFT_OUT)' requirements.txt | $(UV) install --no-deps --only-binary :all: \
		$(if $(TORCH),--torch-backend=$(TORCH)) --requirements -
	$(UV) install --quiet --no-deps --no-build-isolation --editable .
	ln -sfn $(CURDIR)/mmpose_simcc \
		$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mmpose_simcc
	@touch $@

lock: venv
	$(BIN)/uv pip compile --universal --python-version 3.9 --no-annotate --no-header --upgrade \
		--overrides overrides.txt requirements.in --output-file requirements.txt
