# Every target makes the environment it needs. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH := benchmarks/.venv
OLDEST := .venv-oldest
SEEDS := 2020,1,2,3,4
# DVC starts stages with `python`: it must be the environment's.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export PYTHONUNBUFFERED := 1

.PHONY: help install repro seeds fingerprint test test-plain test-oldest test-faults test-cluster lint audit ui serve preset \
  smoke bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(STAMP)  ## create .venv with the exact versions of constraints.txt

# torch comes first and through pip, which alone sees a local CPU wheel; uv then installs the rest in seconds.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt torch uv
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]' \
	  || $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib || true  # stages start in 6 instead of 18 seconds
	$(BIN)/python -m genrec.pipeline.plots_page  # what `dvc plots show` fills
	@touch $(STAMP)

repro: $(STAMP)  ## run the whole pipeline (cached) and print the table of results
	dvc repro
	@cat reports/results.md

test: $(STAMP)  ## run all tests, a process for each core
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-oldest: $(OLDEST)/.installed  ## run all tests with the lowest versions that pyproject.toml allows
	PATH="$(CURDIR)/$(OLDEST)/bin:$$PATH" $(OLDEST)/bin/python -m pytest -W default -n auto --dist loadfile \
	  --no-loadscope-reorder --deselect tests/test_dependencies.py::test_what_is_installed_is_what_is_pinned

# torch alone is the pinned one: of older releases an index may have no build for a CPU. It tests with warnings allowed:
# old releases use what newer ones of their own dependencies deprecate.
$(OLDEST)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --no-compile -c constraints.txt torch uv
	$(OLDEST)/bin/python -m pip freeze | grep '^torch==' > $(OLDEST)/torch.txt
	$(OLDEST)/bin/python -m uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct \
	  -c $(OLDEST)/torch.txt -e '.[dev]'
	@touch $@

test-plain: $(STAMP)  ## run the tests that train again, without the processor's vector instructions
	ATEN_CPU_CAPABILITY=default $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m slow tests

lint: $(STAMP)  ## ruff, mypy and bandit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet -c pyproject.toml -r genrec stages benchmarks

# Strict: a package that the service does not know is not clean. It needs a network, so .ci/run does not call it.
audit: $(STAMP)  ## ask for known vulnerabilities of the pinned packages
	$(BIN)/uv tool run --from 'pip-audit>=2.7,<3' pip-audit --strict --no-deps --disable-pip -r constraints.txt

# Seeds share what does not depend on them; `dvc queue status` shows how far they are, `dvc queue logs` what failed.
seeds: $(STAMP)  ## [SEEDS=2020,1,2,3,4]: queue the pipeline by these seeds and run it; then: python -m genrec.pipeline.comparison
	dvc exp run --queue -S 'seed=$(SEEDS)'
	dvc queue start

fingerprint: $(STAMP)  ## does this processor compute as the one of docs/fingerprints.json? names what differs
	$(BIN)/python -m benchmarks.fingerprint

ui: $(STAMP)  ## serve MLflow's pages and print the address of the runs [PORT=5000]
	$(BIN)/python -m genrec.pipeline.ui --port $(or $(PORT),5000)

serve: $(STAMP)  ## recommendations on http://127.0.0.1:8000, with a page for people [PORT=8000] [PACKAGE=data/package]
	$(BIN)/python -m genrec.recommend.service --port $(or $(PORT),8000) --package $(or $(PACKAGE),data/package)

preset: $(STAMP)  ## make preset NAME=beauty [FILE=data.gz [ITEMS=items.tsv]]: put a preset's values into params.yaml
	$(BIN)/python -m genrec.params $(NAME) $(if $(FILE),--path $(FILE)) $(if $(ITEMS),--items $(ITEMS))

smoke: $(STAMP)  ## run the whole pipeline on small synthetic data, in two temporary clones side by side
	$(BIN)/python -m pytest -m pipeline -n 2 --dist loadfile tests/test_pipeline.py tests/test_pipeline_again.py \
	  tests/test_pipeline_in_time.py tests/test_extending.py

bench: $(BENCH)/.installed  ## measure speed against public implementations [ONLY=tiger_training] [BEAUTY=sequences.txt.gz]
	BEAUTY=$(BEAUTY) $(BENCH)/bin/python -W ignore -m benchmarks.run $(ONLY)

# The peers have an environment of their own.
$(BENCH)/.installed: pyproject.toml constraints.txt benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --no-compile -c constraints.txt torch uv
	$(BENCH)/bin/python -m uv pip install --quiet --python $(BENCH)/bin/python -c constraints.txt \
	  -e . -r benchmarks/requirements.txt
	$(BENCH)/bin/python -m compileall -q -j 0 $(BENCH)/lib || true  # as `make install` does: it measures starts
	@touch $@

test-faults: $(STAMP)  ## kill, corrupt, contend (under 20 minutes); the table goes into docs/reliability.md
	GENREC_FAULT_TABLE=docs/reliability.md $(BIN)/python -m pytest -m '' -n 2 --dist loadfile tests/faults

# Beside the tests it installs the extra, whose releases are pinned, into the environment of all others.
test-cluster: $(VENV)/.cluster  ## run stages on a Ray cluster of two nodes, on this machine (minutes)
	$(BIN)/python -m pytest -m '' tests/cluster

$(VENV)/.cluster: $(STAMP)
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[cluster]' \
	  || $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cluster]'
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib/python*/site-packages/ray || true  # a node's helpers must start in 15 s
	@touch $@

clean:  ## remove the environment and scratch files (never data or results)
	rm -rf $(VENV) $(BENCH) $(OLDEST) .genrec .pytest_cache .mypy_cache .ruff_cache
