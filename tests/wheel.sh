# Run an installed hpcasr in an empty folder: sh tests/wheel.sh BIN
set -eu
bin=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"$bin/python" -c 'import hpcasr.kernels.reference, hpcasr.jobs; print("installed in", hpcasr.__path__[0])'
if "$bin/python" -c 'import kernels' 2>/dev/null; then echo 'kernels must not be importable under this name'; exit 1; fi
"$bin/hpcasr" --version
"$bin/mpirun" -n 2 "$bin/hpcasr" train --model tiny --epochs 1 --out exp/wheel
"$bin/hpcasr" report exp/wheel --plot curves.png
test -s exp/wheel/DONE && test -s curves.png
"$bin/hpcasr" jobs render preemptible --site cray --out exp/later | bash -n
"$bin/hpcasr" data synth speech --hours 0.01 --speakers 3
"$bin/hpcasr" data features speech/train --out features
"$bin/hpcasr" data import features --out train.h5
"$bin/mpirun" -n 2 "$bin/hpcasr" align flat-start train.h5 --lexicon speech/local/dict/lexicon.txt --passes 3 --out mono
"$bin/hpcasr" decode graph mono --text speech/train/text --kaldi-text --out graph
"$bin/hpcasr" decode run mono graph train.h5 --acwt 0.1 --penalty 0 --out decoded
"$bin/hpcasr" decode score decoded
echo 'the wheel works outside the tree'
