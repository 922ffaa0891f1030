# Everything runs in .venv, which is made and filled on first use. Another Python has a folder of
# its own beside it: `make test PYTHON=python3.13` runs in .venv-3.13.
PYTHON ?= python3
OLDEST_PYTHON ?= python3.10
VENV := .venv
ifneq ($(PYTHON),python3)
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv-$(or $(VERSION),$(error PYTHON: $(PYTHON) does not start))
endif
BIN := $(VENV)/bin
DEMO_ARGS ?=
TEST_ARGS ?=
# Two workers, one thread each; a file's tests stay together, since they share what they trained.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

.PHONY: demo test test-slow test-all test-frameworks oldest bench cost gpu docs dist lint types
.PHONY: format clean

demo: $(VENV)/ready
	$(BIN)/python examples/quickstart.py $(DEMO_ARGS)

# What to run before each commit.
test: $(VENV)/ready
	$(PYTEST) -m "not slow" $(TEST_ARGS)

test-slow: $(VENV)/ready
	$(PYTEST) -m slow $(TEST_ARGS)

test-all: test test-slow

# stable-pretraining, which adds callbacks of its own to every Trainer of its environment.
test-frameworks: build/frameworks/ready
	OMP_NUM_THREADS=1 build/frameworks/bin/python -m pytest tests/adapters/test_stable_pretraining.py \
		"tests/test_docs.py::test_doctests[star_head.adapters.stable_pretraining]" $(TEST_ARGS)

# With the oldest Python and packages that setup.cfg allows; docs/testing.md says how it went.
oldest: build/oldest/ready
	OMP_NUM_THREADS=1 build/oldest/bin/python -m pytest --numprocesses 2 --dist loadfile \
		-m "not slow" $(TEST_ARGS)

# Huge pages for the head's contenders: else page faults of large buffers decide much of the time.
bench: $(VENV)/ready
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python -m benchmarks.head
	$(BIN)/python -m benchmarks.loss
	$(BIN)/python -m benchmarks.baselines
	$(BIN)/python -m benchmarks.transform
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.episodes
	$(BIN)/python -m benchmarks.logistic_path

# Fills in docs/cost.md; if interrupted, it resumes.
cost: $(VENV)/ready
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python -m benchmarks.cost_head
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python -m benchmarks.cost_evaluation
	$(BIN)/python -m benchmarks.cost_report

# Ten minutes at most on a machine with a CUDA GPU; tiny sizes without one. Fails where a promise of
# README or docs is broken; writes runs/gpu/results.json.
gpu: $(VENV)/ready
	$(BIN)/python -m benchmarks.gpu

docs: $(VENV)/ready
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going docs build/docs

# The wheel and the sdist; docs/releasing.md says how they are checked.
dist: $(VENV)/ready
	rm -rf dist
	$(BIN)/python -m build --outdir dist

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	rm -rf build/types && mkdir -p build/types/star_head
	ln -s $(CURDIR)/star_head/* $(CURDIR)/adapters $(CURDIR)/evaluation $(CURDIR)/examples build/types/star_head
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-* build dist runs *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or \
		sys.exit("constraints.txt needs Python 3.11 or newer: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv $(VENV)
	# A PyTorch of another build (2.14.1+cpu, say) that is there already stays, whatever its release.
	if $(BIN)/python -m pip show torch 2>/dev/null | grep -q '^Version: .*+'; \
		then grep -vE '^torch(vision)?==' constraints.txt; else cat constraints.txt; \
		fi > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt --editable ".[all]"
	touch $@

build/frameworks/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv build/frameworks
	build/frameworks/bin/python -m pip install --quiet --constraint constraints.txt \
		--editable ".[test,stable-pretraining]"
	touch $@

build/oldest/ready: setup.cfg pyproject.toml constraints-oldest.txt
	$(OLDEST_PYTHON) -m venv build/oldest
	build/oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable ".[test]"
	touch $@
