import gzip
import os
import re

import kaldiio
import numpy as np
import pytest

from hpcasr.cli import main
from hpcasr.data.alignment import open_alignment
from hpcasr.data.store import Store
from hpcasr.errors import BadInput
from tests.data.test_transition_model import MODELS


@pytest.fixture
def vectors(rng):
    return {f'u{i}': rng.integers(0, 9000, T).astype(np.int32) for i, T in enumerate((1, 30, 7))}


def get(source, keys):
    source.rewind(set(keys))
    return {k: source.get(k).tolist() for k in keys}


@pytest.mark.parametrize('text', [False, True])
def test_integer_vectors(tmp_path, vectors, text):
    ark, scp, gz = (str(tmp_path/name) for name in ('pdf.ark', 'pdf.scp', 'pdf.gz'))
    kaldiio.save_ark(ark, vectors, scp)
    if text:
        (tmp_path/'pdf.ark').write_text(''.join(f'{k} {" ".join(map(str, v))}\n' for k, v in vectors.items()))
    with gzip.open(gz, 'wb') as f:
        f.write((tmp_path/'pdf.ark').read_bytes())
    expected = {k: v.tolist() for k, v in vectors.items()}
    for name in ark, f'ark:{ark}', f'ark:gunzip -c {gz} |':
        source = open_alignment(name)
        assert list(source.keys()) == list(vectors)
        assert get(source, vectors) == expected
        assert get(source, ['u2', 'u0']) == {k: expected[k] for k in ('u2', 'u0')}
    if not text:
        assert get(open_alignment(scp), vectors) == get(open_alignment(f'scp:{scp}'), vectors) == expected


@pytest.mark.parametrize('keep', [4, 9, 50])
def test_truncated_vectors(tmp_path, vectors, keep):
    path = tmp_path/'pdf.ark'
    kaldiio.save_ark(str(path), vectors)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match='make the alignment again'):
        open_alignment(str(path))


def test_text_with_tabs_and_empty_vectors(tmp_path):
    (tmp_path/'pdf.ark').write_text('\nu1\t1 2\nu2\nu3 \n u4 7\r\n')
    source = open_alignment(str(tmp_path/'pdf.ark'))
    assert get(source, ['u1', 'u2', 'u3', 'u4']) == {'u1': [1, 2], 'u2': [], 'u3': [], 'u4': [7]}


def test_unwanted_vectors_are_not_kept(tmp_path, vectors):
    kaldiio.save_ark(str(tmp_path/'pdf.ark'), vectors)
    source = open_alignment(str(tmp_path/'pdf.ark'))
    source.rewind({'u1', 'u2'})
    source.get('u2')
    assert list(source.passed) == ['u1']


def test_what_cannot_be_read_twice(tmp_path):
    os.mkfifo(tmp_path/'fifo')
    for name in 'ark:-', '-', f'ark:{tmp_path}/fifo':
        with pytest.raises(BadInput, match='is read more than once'):
            open_alignment(name)
    for name in '', 'ark:', ' ':
        with pytest.raises(BadInput, match='names no file'):
            open_alignment(name)


def test_compressed_archives_are_recognized(tmp_path):
    (tmp_path/'pdf.1.gz').write_bytes(gzip.compress(b'u1 1 2\n'))
    with pytest.raises(BadInput, match=r'pdf.1.gz: is compressed; use --ali "ark:gunzip -c \S*pdf.1.gz \|"'):
        open_alignment(str(tmp_path/'pdf.1.gz'))
    with pytest.raises(BadInput, match=r'pdf.1.gz \| gunzip -c \|"'):
        open_alignment(f'ark:cat {tmp_path}/pdf.1.gz |')


@pytest.mark.parametrize('raw', [b'\x1b[2J' + bytes(range(128, 256))*9 + b' x\n',
                                 b'u1 \0B\4' + (2**31 - 1).to_bytes(4, 'little')])
def test_messages_stay_short_and_printable(tmp_path, raw):
    (tmp_path/'pdf.ark').write_bytes(raw)
    with pytest.raises(BadInput, match='make the alignment again') as e:
        open_alignment(str(tmp_path/'pdf.ark'))
    assert str(e.value).isprintable() and len(str(e.value)) < 500


def test_integer_vectors_have_no_ranges(tmp_path, vectors):
    kaldiio.save_ark(str(tmp_path/'pdf.ark'), vectors, str(tmp_path/'pdf.scp'))
    entry = (tmp_path/'pdf.scp').read_text().split()[1]
    (tmp_path/'r.scp').write_text(f'u0 {entry}[0:1]\n')
    with pytest.raises(BadInput, match=r'utterance u0: .* has a range'):
        get(open_alignment(str(tmp_path/'r.scp')), ['u0'])


def test_a_command_that_fails(tmp_path):
    with pytest.raises(BadInput, match='ended with status 3'):
        open_alignment('ark:exit 3 |')


@pytest.fixture
def directory_of(tmp_path, rng):
    """directory_of(jobs) -> the directory of an alignment by transition-ids of the chain model, and its pdf-ids."""
    def make(jobs=12, model='chain'):
        folder, pdfs = tmp_path/'ali', {}
        folder.mkdir()
        (folder/'final.mdl').write_bytes(MODELS[model].binary())
        (folder/'num_jobs').write_text(f'{jobs}\n')
        pdf_of = np.array([-1, *(pdf for _, pdf in MODELS[model].ids())])
        for n in range(1, jobs + 1):
            ids = {f'u{n:02}-{k}': rng.integers(1, len(pdf_of), 5 + k).astype(np.int32) for k in range(2)}
            kaldiio.save_ark(str(folder/'ali'), ids)
            (folder/f'ali.{n}.gz').write_bytes(gzip.compress((folder/'ali').read_bytes()))
            pdfs |= {key: pdf_of[v].tolist() for key, v in ids.items()}
        return folder, pdfs
    return make


def test_the_directory_of_an_alignment(directory_of):
    """Twelve jobs: 10 comes after 9, not after 1."""
    folder, pdfs = directory_of()
    source = open_alignment(str(folder))
    assert source.num_pdfs == 6
    assert list(source.keys()) == list(pdfs)
    for _ in range(2):
        assert get(source, pdfs) == pdfs
    assert source.passed == {}
    assert get(source, ['u12-1', 'u03-0']) == {k: pdfs[k] for k in ('u12-1', 'u03-0')}


def test_transition_ids_by_archive_pipe_and_scp(directory_of, tmp_path, monkeypatch):
    folder, pdfs = directory_of(2)
    monkeypatch.chdir(folder)
    raw = b''.join(gzip.decompress((folder/f'ali.{n}.gz').read_bytes()) for n in (1, 2))
    (folder/'all.ark').write_bytes(raw)
    (folder/'all.scp').write_text(''.join(f'{u} all.ark:{raw.index(u.encode()) + len(u) + 1}\n' for u in pdfs))
    for name in 'all.ark', 'ark:gunzip -c ali.*.gz |', 'ark:gunzip -c ali.*.gz|', 'all.scp':
        source = open_alignment(name, mdl='final.mdl')
        assert source.num_pdfs == 6 and get(source, pdfs) == pdfs
        assert open_alignment(name).num_pdfs is None
    with pytest.raises(BadInput, match=r'none\.mdl: No such file'):
        open_alignment('all.ark', mdl='none.mdl')


def test_a_model_with_fewer_ids(directory_of, tmp_path):
    folder, _ = directory_of(3, 'silence')
    (folder/'final.mdl').write_bytes(MODELS['bakis'].text())
    with pytest.raises(BadInput, match=r'ali/ali.1.gz: utterance u01-0: \d+ is no transition-id of .*has 1\.\.12'):
        open_alignment(str(folder))
    assert open_alignment(str(folder), mdl=write(tmp_path/'m', MODELS['silence'].text())).num_pdfs == 21


def write(path, raw):
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize('harm, says', [
    (lambda d: os.unlink(d/'ali.7.gz'), r'ali.7.gz is missing of 12 jobs'),
    (lambda d: os.unlink(d/'ali.12.gz'), r'ali.12.gz is missing of 12 jobs'),
    (lambda d: os.unlink(d/'final.mdl'), r'ali/final.mdl: No such file'),
    (lambda d: write(d/'num_jobs', b'11\n'), r'has ali.12.gz, but num_jobs says 11'),
    (lambda d: write(d/'num_jobs', b'999999999\n'), r'ali.13.gz is missing of 999999999 jobs'),
    (lambda d: write(d/'num_jobs', b'many\n'), r'num_jobs: expected the number of jobs'),
    (lambda d: write(d/'num_jobs', b''), r'num_jobs: expected the number of jobs'),
    (lambda d: write(d/'ali.3.gz', (d/'ali.3.gz').read_bytes()[:-9]), r'ali.3.gz: .*truncated'),
    (lambda d: write(d/'ali.3.gz', gzip.compress(gzip.decompress((d/'ali.3.gz').read_bytes())[:-9])),
     r'ali.3.gz: utterance u03-1: truncated'),
    (lambda d: write(d/'ali.3.gz', b''), r'ali.3.gz: is empty'),
    (lambda d: write(d/'ali.3.gz', b'u1 1 2 3\n'), r'ali.3.gz: truncated or not compressed by gzip, at its beginning'),
    (lambda d: write(d/'ali.3.gz', (d/'ali.4.gz').read_bytes()), r'ali.4.gz: utterance u04-0 appears twice'),
    (lambda d: [os.unlink(d/f'ali.{n}.gz') for n in range(1, 13)], r'has no ali.1.gz; expected the directory of an al'),
    (lambda d: [os.unlink(d/'ali.3.gz'), os.mkdir(d/'ali.3.gz')], r'ali.3.gz: Is a directory'),
])
def test_bad_directories(directory_of, harm, says):
    folder, _ = directory_of()
    harm(folder)
    with pytest.raises(BadInput, match=says):
        open_alignment(str(folder))


def test_every_truncation_of_a_gz_names_file_and_utterance(directory_of):
    folder, _ = directory_of(2)
    whole = (folder/'ali.2.gz').read_bytes()
    for keep in range(1, len(whole)):
        write(folder/'ali.2.gz', whole[:keep])
        with pytest.raises(BadInput, match=r'ali.2.gz: .*(utterance|beginning).*make the alignment again'):
            open_alignment(str(folder))


def test_without_num_jobs_the_jobs_are_counted(directory_of):
    folder, pdfs = directory_of(3)
    os.unlink(folder/'num_jobs')
    assert get(open_alignment(str(folder)), pdfs) == pdfs
    os.unlink(folder/'ali.1.gz')
    with pytest.raises(BadInput, match=r'ali\.1\.gz is missing'):
        open_alignment(str(folder))


@pytest.fixture
def corpus(directory_of, tmp_path, rng, monkeypatch):
    """The alignment directory `ali` of twelve jobs, the data directory `d` that it is of, and the pdf-ids."""
    _, pdfs = directory_of()
    monkeypatch.chdir(tmp_path)
    os.mkdir('d')
    kaldiio.save_ark('d/f.ark', {u: rng.normal(size=(len(v), 3)).astype(np.float32) for u, v in pdfs.items()},
                     'd/feats.scp')
    (tmp_path/'d/utt2spk').write_text(''.join(f'{u} {u[:3]}\n' for u in pdfs))
    return pdfs


@pytest.mark.parametrize('ali', [['ali'], ['ark:gunzip -c ali/ali.*.gz |', '--mdl', 'ali/final.mdl'],
                                 ['ali', '--num-pdfs', '6'], ['ali', '--mdl', 'ali/final.mdl']])
def test_import(corpus, ali):
    assert main(['data', 'import', 'd', '--out', 's.h5', '--ali', *ali]) == 0
    s = Store('s.h5')
    assert s.num_targets == 6
    assert {s.name(u): s.utterance(u)[1].tolist() for u in range(s.num_utterances)} == corpus


@pytest.mark.parametrize('options, says', [
    (['--ali', 'ali', '--num-pdfs', '7'], r'--num-pdfs is 7, but the model has 6; leave it out'),
    (['--mdl', 'ali/final.mdl'], r'--ali and --mdl'), (['--ali', 'pdf.scp'], r'--ali and --num-pdfs'),
    (['--ali', 'd'], r'd: has no ali\.1\.gz'),
    (['--ali', 'ali', '--mdl', 'd/f.ark'], r'd/f\.ark: not a Kaldi model'),
    (['--ali', 'scp:ali', '--num-pdfs', '6'], r'ali: Is a directory'),
])
def test_import_refuses(corpus, capsys, options, says):
    assert main(['data', 'import', 'd', '--out', 's.h5', *options]) == 2
    err = capsys.readouterr().err
    assert re.search(says, err) and err.count('\n') == 1
    assert not os.path.exists('s.h5')
