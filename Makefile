# Two commands do all of their own set-up: `make demo` and `make test`.

# The first interpreter of a supported version that really starts; override with `make PYTHON=…`.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	$$python -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 \
	&& echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: bench bench-large-photos bench-networks clean cluster coverage demo docs fuzz image-steps lint networks pages screenshots test test-py torture

demo: $(VENV)/.installed
	$(BIN)/featstore demo

# Two processes or more, up to one a core and 3 GB of memory. BLAS' threads would wait for each other, at twice the
# processor time. A process that dies is a failure: xdist hangs where it is replaced.
WORKERS ?= $(shell python3 -c 'import os; print(max(2, min(8, len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (3 * 10**9))))' 2>/dev/null || echo 2)
TESTS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(WORKERS) --max-worker-restart 0

test: $(VENV)/.installed-dev
	$(MAKE) --jobs 2 lint docs
	$(TESTS)

# The tests on another Python, in its own environment: `make test-py PYTHON=python3.12`.
test-py:
	$(MAKE) test VENV=.venv-$(notdir $(PYTHON))

# Fails below the floor in pyproject.toml; lines that only processes of their own run are not counted.
coverage: $(VENV)/.installed-dev
	$(TESTS) --cov --cov-report term

# Every network of keras.applications, built and cut: half an hour.
networks: $(VENV)/.installed-dev
	FEATSTORE_ALL_BACKBONES=1 $(BIN)/pytest tests/backbones

# The commands that README and docs show on photos of flowers, run on these where they lie beside the checkout.
pages: $(VENV)/.installed-dev
	FEATSTORE_PAGES=1 $(BIN)/pytest tests/docs

# The pictures of pages in the docs, from the demo; needs Chromium and its driver.
screenshots: $(VENV)/.installed-dev
	@mkdir -p build
	$(BIN)/featstore demo build/demo > build/demo.txt
	$(BIN)/python tests/screenshots.py build/demo

# What the Dockerfile does, in a new environment: pip line, user, entry point, health check. Needs no Docker.
image-steps: $(VENV)/.installed-dev
	@mkdir -p build
	$(BIN)/featstore demo build/demo > build/demo.txt
	test -d build/model || $(BIN)/featstore export logistic build/model --format onnx --store build/demo/digits.fstore
	$(BIN)/python tests/image_steps.py build/image build/model

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Some minutes for each reader: `make fuzz RUNS=200` is quick, `make fuzz TARGETS="catalog head"` runs some.
fuzz: $(VENV)/.installed-dev
	$(BIN)/python tests/fuzz/campaign.py --runs $(or $(RUNS),5000) $(TARGETS)

# Ray on the loopback: each way to die once, then seeded deaths; `make cluster TRIALS=8` is quick.
cluster: $(VENV)/.installed-dev
	FEATSTORE_CLUSTER=1 $(BIN)/pytest tests/cluster
	$(BIN)/python tests/torture/cluster.py --trials $(or $(TRIALS),100)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff check --preview --select RUF027 featstore cli
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# Kills, power cuts, full disks and failing system calls at every step of writing: up to half an hour on 2 cores.
torture: $(VENV)/.installed-dev
	$(BIN)/python tests/torture/everything.py
	$(BIN)/python tests/torture/tuning.py

# All of it takes an hour and a half; `make bench-store` and the like run a part.
bench: bench-extraction bench-networks bench-large-photos bench-precision bench-rerun bench-store \
	bench-startup bench-memory bench-duplicates bench-heads bench-export bench-views bench-extend \
	bench-cluster bench-containers bench-fitting bench-objects bench-buckets bench-softmax bench-similar bench-labelling \
	bench-relabelling bench-prediction_sets bench-report_map bench-serving

bench-%: $(VENV)/.installed-dev
	@mkdir -p build
	$(BIN)/python benchmarks/$*.py --json build/bench-$*.json

bench-networks: $(VENV)/.installed-dev
	@mkdir -p build
	for network in resnet50 inception_v3; do $(BIN)/python benchmarks/extraction.py --backbone $$network \
		--count 200 --json build/bench-$$network.json || exit 1; done

bench-large-photos: $(VENV)/.installed-dev
	@mkdir -p build
	$(BIN)/python benchmarks/extraction.py --megapixels 12 --count 100 --json build/bench-large-photos.json

clean:
	rm -rf .venv .venv-* build dist featstore.egg-info featstore-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "featstore needs Python 3.11, 3.12 or 3.13; none was found on the PATH." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) setuptools
	$(PIP_INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP_INSTALL) --no-build-isolation --editable ".[dev]"
	@touch $@
