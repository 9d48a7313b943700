"""Real files for every reader, made by hpcasr itself of noise; and, where there is such a folder, of the corpora."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import kaldiio
import numpy as np
import soundfile

from hpcasr import journal, machine
from hpcasr.bench.wire import results
from hpcasr.data.kaldi import table
from tests import test_journal
from tests.bench import test_wire
from tests.data.test_transition_model import MODELS

LEXICON = 'TEA T IY0\nTEA T EY1\nEAT IY1 T\nA EY1\n<UNK> SPN\n'
WEIGHTED = 'TEA 1.0 T IY0\nTEA 0.5 T EY1\nEAT 1.0 IY1 T\nA 1.0 EY1\n<UNK> 1.0 SPN\n'
TEXTS = 'TEA EAT', 'A TEA', 'EAT', 'A A EAT TEA'
RATE = 16000  # Hz
FORMATS = {'wav': 'PCM_16', 'flac': 'PCM_16', 'ogg': 'VORBIS', 'mp3': None, 'aiff': None}
PREFIX = 50  # lines of a corpus' lexicon


def make(folder, data=None):
    """The folder, with a folder of files for every name in `readers`."""
    folder = Path(folder)
    for part in audio, features, texts, models, records:
        part(folder)
    if data:
        corpora(folder, Path(data))
    return folder


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def copy(source, folder, *names):
    for name in names:
        write(folder/name, (source/name).read_bytes())


def hpcasr(folder, *args):
    done = subprocess.run([sys.executable, '-m', 'hpcasr', *map(str, args)], cwd=folder, capture_output=True, text=True)
    assert not done.returncode, f'{args}: {done.stderr}'


def audio(folder):
    """A data directory with a recording of each format, and segments of the first."""
    rng, data = np.random.default_rng(0), folder/'audio'
    data.mkdir(parents=True)
    for k, (form, subtype) in enumerate(FORMATS.items()):
        x = 0.1*rng.standard_normal(RATE//4)
        soundfile.write(data/f'{k}.{form}', x, RATE, subtype)
    soundfile.write(data/'float.wav', x, RATE, 'FLOAT')
    soundfile.write(data/'opus.ogg', x, RATE, 'OPUS')
    names = sorted(p.name for p in data.iterdir())
    write(data/'wav.scp', ''.join(f'r{k} {name}\n' for k, name in enumerate(names)))
    write(data/'segments', ''.join(f'u{k} r{k} 0.01 {0.2 + k/1000}\n' for k in range(len(names))))
    write(data/'utt2spk', ''.join(f'u{k} s{k//3}\n' for k in range(len(names))))


def features(folder):
    """Archives in all forms, alignments, a data directory that holds them, the store made of it."""
    rng, data = np.random.default_rng(1), folder/'data'
    data.mkdir()
    x = {f'u{k}': rng.normal(2, 3, (40 + 10*k, 13)).astype(np.float32) for k in range(len(TEXTS))}
    arks(folder/'ark', x)
    kaldiio.save_ark(str(data/'feats.ark'), x, str(data/'feats.scp'))
    write(data/'feats.scp', (data/'feats.scp').read_text().replace(f'{data}/', ''))
    write(data/'utt2spk', ''.join(f'u{k} s{k//2}\n' for k in range(len(TEXTS))))
    write(data/'spk2utt', 's0 u0 u1\ns1 u2 u3\n')
    write(data/'text', ''.join(f'u{k} {text}\n' for k, text in enumerate(TEXTS)))
    write(data/'utt2num_frames', ''.join(f'{u} {len(y)}\n' for u, y in x.items()))
    write(data/'frontend.json', json.dumps({'kind': 'mfcc', 'num_ceps': 13, 'frame_shift': 0.01}))
    alignments(folder/'alignment', rng)


def arks(folder, x):
    """Plain, compressed by each method, of doubles, of text; an scp for each, one with ranges."""
    folder.mkdir()
    forms = {'plain': {}, 'text': {'text': True}, **{f'method{m}': {'compression_method': m} for m in (2, 3, 5)}}
    for name, options in forms.items():
        few = {u: y[:9] for u, y in x.items()} if name == 'text' else x
        kaldiio.save_ark(str(folder/f'{name}.ark'), few, str(folder/f'{name}.scp'), **options)
    kaldiio.save_ark(str(folder/'double.ark'), {u: y.astype(np.float64) for u, y in x.items()},
                     str(folder/'double.scp'))
    for scp in folder.glob('*.scp'):
        write(scp, scp.read_text().replace(f'{folder}/', ''))
    write(folder/'range.scp', ''.join(f'{u} {place}[2:{3 + k},0:{k}]\n'
                                      for k, (u, place) in enumerate(table(folder/'plain.scp').items())))


def alignments(folder, rng):
    """pdf-ids by archive and by scp, as text; transition-ids with their model, compressed, binary and text."""
    model = MODELS['bakis']
    ids = {f'u{k}': rng.integers(1, 12, 40).astype(np.int32) for k in range(4)}
    write(folder/'pdf.ark', b''.join(vector(u, y) for u, y in ids.items()))
    write(folder/'text.ark', ''.join(f'{u} {" ".join(map(str, y))}\n' for u, y in ids.items()))
    places, at = [], 0
    for u, y in ids.items():
        places.append(f'{u} pdf.ark:{at + len(u) + 1}\n')
        at += len(vector(u, y))
    write(folder/'pdf.scp', ''.join(places))
    for name, form in ('ali', model.binary()), ('ali-text', model.text()):
        write(folder/name/'final.mdl', form)
        write(folder/name/'num_jobs', '2\n')
        for job in 1, 2:
            some = [u for u in ids if int(u[1:]) % 2 == job - 1]
            write(folder/name/f'ali.{job}.gz', gzip.compress(b''.join(vector(u, ids[u]) for u in some), mtime=0))
    for name, model in MODELS.items():
        write(folder.parent/'mdl'/f'{name}.mdl', model.binary())
        write(folder.parent/'mdl'/f'{name}-text.mdl', model.text())


def vector(key, x):
    body = np.empty(len(x), [('size', 'i1'), ('value', '<i4')])
    body['size'], body['value'] = 4, x
    return f'{key} \0B\4'.encode() + len(x).to_bytes(4, 'little') + body.tobytes()


def texts(folder):
    """Lexica, sentences, configurations."""
    for name, text in ('lexicon.txt', LEXICON), ('lexiconp.txt', WEIGHTED):
        write(folder/'lexicon'/name, text)
    write(folder/'sentences'/'text', ''.join(f'{t}\n' for t in TEXTS*3))
    write(folder/'sentences'/'kaldi-text', ''.join(f'u{k} {t}\n' for k, t in enumerate(TEXTS)))
    shown = subprocess.run([sys.executable, '-m', 'hpcasr', 'train', '--show-config'], capture_output=True, check=True)
    write(folder/'toml'/'config.toml', shown.stdout)
    write(folder/'toml'/'short.toml', '[optim]\nlr = 0.5\n[data]\nchunk = 31\n[train]\nalgo = "async-ps"\n')


def models(folder):
    """Stores, mixtures, a network with its checkpoints, a graph, hypotheses and scores."""
    work = folder/'work'
    work.mkdir()
    hpcasr(work, 'data', 'import', folder/'data', '--deltas', 0, '--out', 's.h5')
    write(work/'lexicon.txt', LEXICON)
    hpcasr(work, 'align', 'flat-start', 's.h5', '--lexicon', 'lexicon.txt', '--states', 1, '--passes', 2, '--out',
           'ali')
    hpcasr(work, 'train', 's.h5', '--model', 'tiny', '--set', 'model.cells=4', '--epochs', 2, '--batch', 4, '--chunk',
           10,
           '--algo', 'local-sgd', '--set', 'report.tensorboard=false', '--out', 'exp')
    hpcasr(work, 'decode', 'graph', 'ali', '--text', folder/'sentences'/'text', '--order', 3,
           '--out', 'graph')
    hpcasr(work, 'decode', 'run', 'ali', 'graph', 's.h5', '--acwt', '0.1,0.2', '--penalty', 0, '--out', 'decoded')
    hpcasr(work, 'decode', 'score', 'decoded')
    copy(work, folder/'store', 's.h5')
    copy(work, folder/'mixtures', *(f'ali/{n}' for n in ('gmm.npz', 'tree.json', 'lexicon.json', 'args.json')))
    write(folder/'mixtures'/'ali'/'pass.npz', (work/'ali'/'gmm.npz').read_bytes())
    copy(work, folder/'graph', *(f'graph/{n}' for n in ('HCLG.fst', 'words.txt', 'phones.txt', 'graph.json')))
    copy(work, folder/'arpa', 'graph/lm.arpa')
    copy(work, folder/'scores'/'out', *(str(p.relative_to(work)) for p in (work/'decoded'/'scoring').iterdir()))
    copy(work, folder/'experiment', *(f'exp/{n}' for n in ('config.toml', 'model.json', 'versions.json', 'DONE')))
    copy(work, folder/'metrics', 'exp/metrics.jsonl')
    for path in (work/'exp'/'checkpoints').glob('*/*'):
        for name in 'experiment', 'checkpoint':
            copy(work, folder/name, str(path.relative_to(work)))


def records(folder):
    """The record of a run; the costs of links; figures of microbenchmarks."""
    (folder/'record').mkdir()
    test_journal.write(folder/'record'/'r.bin', [test_journal.stretch(0, 4), test_journal.stretch(4, 9)])
    fits = [{'test': 'latency', 'buffers': 'numpy', 'type': 'uint8',
             'pieces': [{'latency_us': 1.5, 'ns_per_byte': 0.1}, {'latency_us': 3.0, 'ns_per_byte': 0.2}]}]
    write(folder/'machine'/'machine.json', json.dumps(machine.describe({'created': 'today'}, fits)))
    (folder/'figures').mkdir()
    rows = [test_wire.row(size=1 << k, p50_us=1.0 + k) for k in range(4)]
    for name in 'now.json', 'before.json':
        results.write_json(folder/'figures'/name, test_wire.FACTS | {'rows': rows})
    assert journal.read(folder/'record'/'r.bin')


def corpora(folder, data):
    """Beginnings of files of the corpora: their archive, lexica and tables."""
    an4 = data/'an4-mfcc'
    if (an4/'dev'/'feats.scp').exists():
        u, place = next(iter(table(an4/'dev'/'feats.scp').items()))
        with open(an4/'dev'/'feats.ark', 'rb') as f:
            raw = f.read(20_000)
        write(folder/'ark'/'an4.ark', raw)
        write(folder/'ark'/'an4.scp', f'{u} an4.ark:{place.rpartition(":")[2]}\n')
    for k, lexicon in enumerate(data.glob('*/local/dict/lexicon.txt')):
        write(folder/'lexicon'/f'corpus{k}.txt', b''.join(lexicon.read_bytes().splitlines(True)[:PREFIX]))
    for audio in sorted(data.glob('so762/audio/*'))[:1]:
        write(folder/'audio'/f'corpus{audio.suffix}', audio.read_bytes()[:6000])
        with open(folder/'audio'/'wav.scp', 'a') as f:
            f.write(f'corpus corpus{audio.suffix}\n')
