# Two commands matter: `make figures` and `make test`. `make help` lists the rest.

PYTHON ?= python3
BIN := .venv/bin
NEWEST := build/newest/bin
SCALE ?= standard
PAPER ?=
DEVICE ?= auto
EXECUTOR ?= loky
PARAMS ?=

# Through the environment, so that quotes and spaces reach the command as they were typed.
export PAPER SCALE DEVICE EXECUTOR PARAMS
ORDER = --paper="$$PAPER" --scale="$$SCALE" --device="$$DEVICE" --executor="$$EXECUTOR" --params="$$PARAMS"
# Tests: no bars in stored output, and one thread per kernel (side by side, several threads each are far slower).
QUIET = TQDM_DISABLE=1 OMP_NUM_THREADS=1 EXECUTOR=serial

.DEFAULT_GOAL := help
.PHONY: help env lab figures test newest verdicts lint check verify gallery bench clean

help:  ## list these commands
	@echo "make COMMAND, where COMMAND is one of:"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 12
	@echo
	@echo "figures takes SCALE=quick|standard|paper, PAPER='key ...', DEVICE=auto|cpu|cuda,"
	@echo "EXECUTOR=serial|loky|dask|tcp://host:port|FILE.yml and, for a trial, PARAMS='name=value ...'."

env: .venv/complete  ## make the environment (.venv) from requirements.lock

.venv/complete: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing the environment into .venv; the first time this takes some minutes."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

lab: env  ## open JupyterLab on the notebooks (this machine only)
	$(BIN)/jupyter lab --ip=127.0.0.1 --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

figures: env  ## run every notebook and write figures/ (standard scale) or build/<scale>/
	@$(BIN)/python -m lib figures $(ORDER)

test: env  ## unit tests, then every notebook rerun at quick scale with its verdicts compared
	$(QUIET) $(BIN)/pytest -n auto lib tests
	$(QUIET) $(BIN)/pytest -n auto --dist loadscope --nbval-lax --nbval-current-env notebooks

# One test compares what is installed with requirements.lock: here it is left out.
newest:  ## the same tests with the newest versions that pyproject.toml admits, in build/newest
	@$(PYTHON) -m venv build/newest
	@$(NEWEST)/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager --editable '.[test,cluster]'
	$(QUIET) $(NEWEST)/pytest -n auto lib tests --deselect tests/test_project.py::test_the_installed_numeric_packages_are_the_locked_ones
	$(QUIET) $(NEWEST)/pytest -n auto --dist loadscope --nbval-lax --nbval-current-env notebooks

verdicts: env  ## rerun every notebook at quick scale and store its verdicts in it, nothing else
	@for notebook in notebooks/*.ipynb notebooks/*/*.ipynb; do \
		$(BIN)/jupyter execute --inplace --kernel_name=python3 $$notebook && $(BIN)/nbstripout --keep-count $$notebook || exit 1; done

lint: env  ## style of code, notebooks and workflows; notebooks hold no outputs but their verdicts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify --keep-count notebooks/*.ipynb notebooks/*/*.ipynb
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

check: env  ## are the committed figures what the code would make? (trains nothing)
	@$(BIN)/python -m lib check

verify: env  ## recompute standard scale from nothing and compare with the committed claims
	@rm -rf build/verify
	@PAPERS_BUILD=build/verify $(BIN)/python -m lib verify --paper="$$PAPER" --device="$$DEVICE" --executor="$$EXECUTOR"

gallery: env  ## refresh the README's figure wall
	@$(BIN)/python -m lib gallery

bench: env  ## run the benchmarks
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:  ## remove what was built (results, executed notebooks); .venv and figures/ stay
	rm -rf build .pytest_cache .ruff_cache .hypothesis
