# Everything runs in .venv, which is made and filled on first use.
PYTHON ?= python3
BIN := .venv/bin
DEMO_ARGS ?=

.PHONY: demo test bench lint types format clean

demo: .venv/ready
	$(BIN)/python examples/quickstart.py $(DEMO_ARGS)

test: .venv/ready
	$(BIN)/python -m pytest

# Huge pages for the head's contenders: else page faults of large buffers decide much of the time.
bench: .venv/ready
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python benchmarks/head.py
	$(BIN)/python benchmarks/loss.py
	$(BIN)/python benchmarks/transform.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python benchmarks/episodes.py
	$(BIN)/python benchmarks/logistic_path.py

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
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
