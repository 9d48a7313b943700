# make demo   from nothing to a word error rate, on synthetic speech: align, train on two ranks, decode; and the curves
# make test   every test: in one process, then on two ranks; make test-3: the MPI tests on three (any number)

PYTHON ?= python3
VENV ?= .venv
BIN = $(abspath $(VENV))/bin
RANKS ?= 2
PRECISION ?= fp32
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

.PHONY: demo an4 so762 test test-all test-openmpi test-slurm test-cuda test-cuda-compile soak lint bench bench-algorithms bench-cpu \
    bench-gpu bench-wire check-wheel clean

demo: $(VENV)/.demo
	test -e exp/demo/speech/synth.json || $(BIN)/hpcasr data synth exp/demo/speech
	$(BIN)/hpcasr recipe exp/demo/speech --out exp/demo --ranks $(RANKS) --algo=sync-allreduce --epochs 8
	$(BIN)/hpcasr report exp/demo/nnet --plot exp/demo/curves.png --force
	@echo 'next:  hpcasr transcribe exp/demo FILE.wav'

# recognition of real speech; HPCASR_DATA is the folder of the corpora (README, Tests); so762 is faster with PRECISION=bf16
# where the processor has it
an4: $(VENV)/.demo
	$(BIN)/hpcasr recipe $(corpus)/an4-mfcc --out exp/an4 --ranks $(RANKS) --epochs 4 --seeds 3 --realign small \
	    --realign-epochs 10 --tempo 0.8,0.9,1.1,1.2 --systems --more 'search=--checkpoint average'

so762: $(VENV)/.demo
	cd $(corpus)/so762 && $(BIN)/hpcasr recipe . --out $(CURDIR)/exp/so762 --ranks $(RANKS) --model mid --epochs 4 \
	    --realign small --realign-epochs 4 --tempo 0.9,1.1 --order 3 --systems \
	    --more 'first=--batch 16 --set model.dropout=0.2' --more 'search=--checkpoint average' \
	    --more 'train=--batch 16 --checkpoint-every 30000 --set optim.hold=2 --set optim.decay=0.28 --precision $(PRECISION)'

corpus = $(or $(HPCASR_DATA),$(error name the folder of the corpora: make $@ HPCASR_DATA=FOLDER))

test: $(VENV)/.test test-cuda
	$(BIN)/python -m pytest -m 'not mpi and not slow' -q
	$(BIN)/mpirun -n 2 $(MPI_TEST)

# those too that are like others: launches with more algorithms, more numbers of ranks
test-all: $(VENV)/.test test-cuda
	$(BIN)/python -m pytest -m 'not mpi' -q

# the kernels for GPUs, in Numba's simulator, which a process has or has not; on a GPU: HPCASR_TEST_GPU=1 pytest tests/cuda
test-cuda: $(VENV)/.test
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest tests/cuda -q

# the same kernels compiled for GPUs, where there is none: no double precision, no spilled registers; 900 MB of compiler
test-cuda-compile: .venv-cuda/.compile
	PYTHONPATH=. .venv-cuda/bin/python -m tests.cuda.compile

test-openmpi:
	$(MAKE) VENV=.venv-openmpi MPI=openmpi test-openmpi-here

.PHONY: test-openmpi-here
test-openmpi-here: $(VENV)/.test
	$(BIN)/python -m pytest tests/launch/test_failures.py tests/launch/test_resume.py tests/launch/test_recipe.py -m 'not slow' -q
	$(BIN)/mpirun -n 2 $(MPI_TEST)
	$(BIN)/mpirun -n 3 $(MPI_TEST)

# hostile files: every reader gets real files that were spoilt; make fuzz CASES=200 READERS='store audio' SEED=7
CASES ?= 5000
SEED ?= 0
.PHONY: fuzz
fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz $(READERS) --cases $(CASES) --seed $(SEED)

# on a SLURM cluster of four nodes on this machine, started and stopped again; as root, it installs the Debian packages
test-slurm: $(VENV)/.test
	tests/slurm/packages.sh
	tests/slurm/cluster.sh run env HPCASR_TEST_SLURM=1 $(BIN)/python -m pytest tests/slurm -q

# any number of ranks: make test-3, make test-5
test-%: $(VENV)/.test
	$(BIN)/mpirun -n $* $(MPI_TEST)

# a hundred random faults, restarts, and the same models as without them; some half an hour on two cores
soak: $(VENV)/.test
	$(BIN)/python tests/soak.py --faults $(FAULTS)

FAULTS ?= 100

lint: $(VENV)/.test
	$(BIN)/ruff check setup.py hpcasr kernels jobs tests

bench: $(VENV)/.test
	$(BIN)/hpcasr bench step
	$(BIN)/hpcasr bench data --size 10G

# of every algorithm: the time of a step on all ranks, computing and asleep; of an exchange, and of a reach into the memory
# of another rank; what one slow rank of 8 costs; what is learnt of the demo's speech, also at growing batches; of every way
# to compress, its time, on what links it pays, and what is learnt with it
bench-algorithms: $(VENV)/.demo
	test -e exp/demo/RESULTS || $(MAKE) demo
	$(BIN)/mpirun -n $(RANKS) $(BIN)/hpcasr bench exchange
	$(BIN)/mpirun -n $(RANKS) $(BIN)/hpcasr bench algorithms
	$(BIN)/mpirun -n $(RANKS) $(BIN)/hpcasr bench algorithms --pace 50
	$(BIN)/mpirun -n $(RANKS) $(BIN)/hpcasr bench onesided
	$(BIN)/mpirun -n 8 $(BIN)/hpcasr bench stragglers
	$(BIN)/mpirun -n 8 $(BIN)/hpcasr bench stragglers --model small --pace 200 --slow 1,4 --steps 10 --blocks 5
	$(BIN)/hpcasr bench convergence exp/demo/train.h5 --dev exp/demo/dev.h5 --graph exp/demo/tri/graph \
	    --test exp/demo/test.h5 --out exp/convergence
	$(BIN)/hpcasr bench convergence exp/demo/train.h5 --dev exp/demo/dev.h5 --sweep 1,2,4,8,16 \
	    --more '--model tiny --chunk 32 --lr 4' --out exp/sweep
	$(BIN)/mpirun -n $(RANKS) $(BIN)/hpcasr bench compress
	$(BIN)/hpcasr bench links
	$(BIN)/hpcasr bench convergence exp/demo/train.h5 --dev exp/demo/dev.h5 --compress all --seeds 3 --out exp/compressed

# a step beside PyTorch's, on one core, and on two beside DistributedDataParallel; PyTorch, the extra `torch`, is installed
# by whoever wants this: the wheel for CPUs alone will do; some 15 minutes, on a machine that does nothing else
bench-cpu: $(VENV)/.test
	$(BIN)/hpcasr bench cpu --precision fp32 --precision bf16
	$(BIN)/mpirun -n 2 $(BIN)/hpcasr bench cpu

# on a machine with a GPU, 8 minutes: every kernel and training against float64, then beside PyTorch's LSTM of cuDNN; needs
# the extras cuda12 or cuda13, and torch, in $(VENV); tests/cuda/gpu_run.sh does it where there is no network
bench-gpu: $(VENV)/.test
	$(BIN)/hpcasr bench gpu --out tests/results

# MPI by itself: the links of this machine, what it costs to reach a rank that computes, machine.json for --virtual; and the
# same calls from C (needs gcc), whose exit status is 1 where Python's take more than 5 % longer from 64 KiB on
WIRE = exp/wire/$(shell date +%Y%m%d-%H%M%S)
bench-wire: out := $(WIRE)
bench-wire: $(VENV)/.test
	mkdir -p $(out)
	$(BIN)/mpirun -n $(RANKS) $(BIN)/hpcasr bench wire latency bw bibw allreduce sum_ordered iallreduce neighbor -m 1:64M \
	    --json $(out)/links.json --csv $(out)/links.csv --plot $(out)/links.png --machine $(out)/machine.json
	$(BIN)/mpirun -n $(RANKS) $(BIN)/hpcasr bench wire put_latency get_latency fop_latency -m 8:8 --cap 3 \
	    --window create,allocate,shared --sync lock,lock_all --target idle,computing --json $(out)/reach.json
	$(BIN)/mpirun -n $(RANKS) $(BIN)/hpcasr bench ticket --target idle,computing
	$(BIN)/mpirun -n $(RANKS) $(BIN)/hpcasr bench wire latency bw allreduce bcast --check-c -m 8:16M

# the built wheel, installed in a fresh environment and run outside this tree
check-wheel:
	rm -rf build dist .venv-wheel
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check build
	.venv-wheel/bin/python -m build --quiet --outdir dist .
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls dist/*.whl)[mpich,demo]"
	sh tests/wheel.sh "$(abspath .venv-wheel)/bin"

clean:
	rm -rf build dist exp/demo exp/convergence exp/sweep exp/compressed exp/wire .venv .venv-cuda .venv-openmpi .venv-wheel \
	    .pytest_cache .ruff_cache .hypothesis *.egg-info
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

# what drivers from 580 on take; the compiler of a later one writes PTX that they refuse
CUDA = 13.0

.venv-cuda/.compile: Makefile
	$(MAKE) VENV=.venv-cuda .venv-cuda/bin/python
	.venv-cuda/bin/python -m pip install --quiet --disable-pip-version-check 'numba>=0.62' 'numba-cuda>=0.30' \
	    'cuda-toolkit[cudart,nvrtc,nvvm]==$(CUDA).*' 'nvidia-nvjitlink==$(CUDA).*' 'cuda-bindings==$(CUDA).*'
	touch $@
