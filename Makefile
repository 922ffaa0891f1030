# Everything runs in .venv, which is made and filled on first use.
PYTHON ?= python3
OLDEST_PYTHON ?= python3.10
BIN := .venv/bin
DEMO_ARGS ?=

.PHONY: demo test oldest bench cost docs lint types format clean

demo: .venv/ready
	$(BIN)/python examples/quickstart.py $(DEMO_ARGS)

test: .venv/ready
	$(BIN)/python -m pytest

# With the oldest Python and packages that setup.cfg allows; docs/versions.md says how it went.
oldest: build/oldest/ready
	build/oldest/bin/python -m pytest -m "not slow"

# Huge pages for the head's contenders: else page faults of large buffers decide much of the time.
bench: .venv/ready
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python -m benchmarks.head
	$(BIN)/python -m benchmarks.loss
	$(BIN)/python -m benchmarks.transform
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.episodes
	$(BIN)/python -m benchmarks.logistic_path

# Fills in docs/cost.md; if interrupted, it resumes.
cost: .venv/ready
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python -m benchmarks.cost_head
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python -m benchmarks.cost_evaluation
	$(BIN)/python -m benchmarks.cost_report

docs: .venv/ready
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going docs build/docs

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	rm -rf build/types && mkdir -p build/types/star_head
	ln -s $(CURDIR)/star_head/* $(CURDIR)/adapters $(CURDIR)/evaluation $(CURDIR)/examples build/types/star_head
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist runs *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all]"
	touch $@

build/oldest/ready: setup.cfg pyproject.toml constraints-oldest.txt
	$(OLDEST_PYTHON) -m venv build/oldest
	build/oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable ".[test]"
	touch $@
