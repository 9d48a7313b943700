# make demo   train on two ranks from nothing; ends in held-out scores and a picture of the curves
# make test   every test: in one process, then on two ranks; make test-3: the MPI tests on three (any number)

PYTHON ?= python3
VENV ?= .venv
BIN = $(abspath $(VENV))/bin
RANKS ?= 2
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
MPI_TEST = $(BIN)/python -m pytest --with-mpi -m mpi -q

# ranks share the cores: one BLAS thread each
export OPENBLAS_NUM_THREADS = 1
# Open MPI refuses root and more ranks than cores unless told; MPICH does not look at these
export OMPI_ALLOW_RUN_AS_ROOT = 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM = 1
export PRTE_ALLOW_RUN_AS_ROOT = 1
export PRTE_ALLOW_RUN_AS_ROOT_CONFIRM = 1
export PRTE_MCA_rmaps_default_mapping_policy = :oversubscribe
export PATH := $(BIN):$(PATH)

.PHONY: demo test test-openmpi lint bench check-wheel clean

demo: $(VENV)/.demo
	$(BIN)/mpirun -n $(RANKS) $(BIN)/hpcasr train --algo=sync-allreduce --out exp/demo --force
	$(BIN)/hpcasr report exp/demo --plot exp/demo/curves.png --force

test: $(VENV)/.test
	$(BIN)/python -m pytest -m 'not mpi' -q
	$(BIN)/mpirun -n 2 $(MPI_TEST)

test-openmpi:
	$(MAKE) VENV=.venv-openmpi MPI=openmpi test-openmpi-here

.PHONY: test-openmpi-here
test-openmpi-here: $(VENV)/.test
	$(BIN)/python -m pytest tests/launch/test_failures.py tests/launch/test_resume.py -q
	$(BIN)/mpirun -n 2 $(MPI_TEST)
	$(BIN)/mpirun -n 3 $(MPI_TEST)

# any number of ranks: make test-3, make test-5
test-%: $(VENV)/.test
	$(BIN)/mpirun -n $* $(MPI_TEST)

lint: $(VENV)/.test
	$(BIN)/ruff check setup.py hpcasr kernels tests

bench: $(VENV)/.test
	$(BIN)/hpcasr bench step
	$(BIN)/hpcasr bench data --size 10G

# the built wheel, installed in a fresh environment and run outside this tree
check-wheel:
	rm -rf build dist .venv-wheel
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check build
	.venv-wheel/bin/python -m build --quiet --outdir dist .
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls dist/*.whl)[mpich,demo]"
	sh tests/wheel.sh "$(abspath .venv-wheel)/bin"

clean:
	rm -rf build dist exp/demo .venv .venv-openmpi .venv-wheel .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

MPI ?= mpich

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "hpcasr needs Python 3.11 or newer; make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: setup.py pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[$(MPI),demo]'
	touch $@

$(VENV)/.test: setup.py pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[$(MPI),demo,test]'
	touch $@
