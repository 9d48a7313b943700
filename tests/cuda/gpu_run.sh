#!/bin/sh
# Everything that needs a GPU, in one call of less than ten minutes, on a machine that has nothing but Python with NumPy,
# Numba, numba-cuda, CuPy, h5py, click, pytest, PyTorch, and no network.  From the root of the source tree:
#
#   sh tests/cuda/gpu_run.sh [DIR]
#
# DIR (default: $OUT, or tests/results) gets tests.log and gpu-NAME.json, section by section.  What the machine lacks is
# carried along as wheels, which pip fetches beforehand; where there are none, sections that need them fail, no others:
#
#   python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
#       --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
#       -d .whl mpich kaldiio
out=$(mkdir -p "${1:-${OUT:-tests/results}}" && cd "${1:-${OUT:-tests/results}}" && pwd) || exit 2
python=${PYTHON:-python3}
begin=$(date +%s)
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
export PYTHONPATH="$PWD:$site" PYTHONUNBUFFERED=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1

# a wheel is an archive; pip --target would leave out the programs and libraries of an MPI
for wheel in .whl/*.whl; do
    test -e "$wheel" && "$python" -m zipfile -e "$wheel" "$site"
done
for mpi in "$site"/mpich-*.data/data; do
    test -d "$mpi" || continue
    chmod +x "$mpi"/bin/*
    export PATH="$mpi/bin:$PATH" MPI4PY_LIBMPI="$mpi/lib/libmpi.so.12" LD_LIBRARY_PATH="$mpi/lib:$LD_LIBRARY_PATH"
done

# the tests of the kernels, first: what follows is of no use where they fail, but it is run
HPCASR_TEST_GPU=1 timeout 100 "$python" -m pytest tests/cuda -q -p no:cacheprovider --tb=short >"$out/tests.log" 2>&1
tests=$?
tail -n 15 "$out/tests.log"
"$python" -m hpcasr bench gpu --out "$out" --seconds $((475 - $(date +%s) + begin))
status=$?
echo "tests/cuda: status $tests; bench gpu: status $status; $(($(date +%s) - begin)) s"
test $tests -eq 0 && exit $status
exit 1
