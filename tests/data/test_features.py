import kaldi_native_fbank as knf
import numpy as np
import pytest
import soundfile

from hpcasr.data.audio import FULL_SCALE, LOUDEST
from hpcasr.data.features import Features, make_features, ordered
from hpcasr.data.kaldi import Scp, table
from hpcasr.errors import BadInput

RATE = 16000


def tone(seconds, rate=RATE, seed=0):
    """Noise and a sine of 440 Hz, as it comes back from a 16-bit file: multiples of 1/32768."""
    t = np.arange(int(seconds*rate))/rate
    x = 0.3*np.sin(2*np.pi*440*t) + 0.01*np.random.default_rng(seed).normal(size=len(t))
    return (np.round(x*32768)/32768).astype(np.float32)


@pytest.fixture
def speech(tmp_path):
    """A data directory of two recordings, wav and flac; paths relative to its parent."""
    (tmp_path/'audio').mkdir()
    path = tmp_path/'train'
    path.mkdir()
    for i, kind in enumerate(('wav', 'flac')):
        soundfile.write(tmp_path/f'audio/r{i}.{kind}', tone(1 + i, seed=i), RATE, subtype='PCM_16')
    (path/'wav.scp').write_text('r0 audio/r0.wav\nr1 audio/r1.flac\n')
    (path/'utt2spk').write_text('r0 r0\nr1 r1\n')
    (path/'text').write_text('r0 ONE\nr1 TWO\n')
    return path


def direct(samples, options, online):
    options.frame_opts.dither = 0
    f = online(options)
    f.accept_waveform(RATE, samples*32768)
    f.input_finished()
    return np.array([f.get_frame(t) for t in range(f.num_frames_ready)])


def test_fbank_is_that_of_the_library(speech, tmp_path):
    make_features(speech, tmp_path/'out', Features())
    scp, options = Scp(tmp_path/'out/feats.scp'), knf.FbankOptions()
    options.mel_opts.num_bins = 40
    for i in range(2):
        x = scp.matrix(f'r{i}')
        np.testing.assert_array_equal(x, direct(tone(1 + i, seed=i), options, knf.OnlineFbank))
        assert len(x) == 1 + ((1 + i)*RATE - 400)//160  # edges snipped


def test_mfcc_is_that_of_the_library(speech, tmp_path):
    make_features(speech, tmp_path/'out', Features('mfcc', num_mel_bins=23, num_ceps=12))
    options = knf.MfccOptions()
    options.num_ceps, options.use_energy, options.mel_opts.num_bins = 12, False, 23
    x = Scp(tmp_path/'out/feats.scp').matrix('r1')
    np.testing.assert_array_equal(x, direct(tone(2, seed=1), options, knf.OnlineMfcc))


def test_the_sine_is_loudest_in_its_filter(speech, tmp_path):
    make_features(speech, tmp_path/'out', Features())
    mel = lambda hz: 1127*np.log(1 + hz/700)
    expected = 41*(mel(440) - mel(20))/(mel(8000) - mel(20)) - 1
    assert abs(Scp(tmp_path/'out/feats.scp').matrix('r0').mean(0).argmax() - expected) < 1


def test_any_number_of_processes_writes_the_same(speech, tmp_path):
    make_features(speech, tmp_path/'1', Features(), jobs=1)
    make_features(speech, tmp_path/'2', Features(), jobs=2)
    for name in 'feats.ark', 'utt2num_frames', 'text', 'frontend.json':
        assert (tmp_path/'1'/name).read_bytes() == (tmp_path/'2'/name).read_bytes()


def test_segments(speech, tmp_path):
    (speech/'segments').write_text('a r0 0.25 0.75\nb r1 0.5 -1\nc r1 0 0.02\nd r1 1.5 2.3\n')
    (speech/'utt2spk').write_text('a s\nb s\nc s\nd s\n')
    (speech/'text').write_text('a A\nb B\nc C\nd D\n')
    assert make_features(speech, tmp_path/'out', Features()) == ['c']
    scp, options = Scp(tmp_path/'out/feats.scp'), knf.FbankOptions()
    options.mel_opts.num_bins = 40
    cut = {'a': tone(1)[4000:12000], 'b': tone(2, seed=1)[8000:], 'd': tone(2, seed=1)[24000:]}
    for name, samples in cut.items():
        np.testing.assert_array_equal(scp.matrix(name), direct(samples, options, knf.OnlineFbank))
    assert table(tmp_path/'out/spk2utt') == {'s': 'a b d'}
    assert list(table(tmp_path/'out/text')) == list(table(tmp_path/'out/utt2num_frames')) == ['a', 'b', 'd']


def test_other_rates_are_resampled(speech, tmp_path):
    x = tone(1, 48000)
    soundfile.write(tmp_path/'audio/r0.wav', x, 48000, subtype='PCM_16')
    make_features(speech, tmp_path/'out', Features())
    y = Scp(tmp_path/'out/feats.scp').matrix('r0')
    assert len(y) == 98 and y.mean(0).argmax() == Features()(tone(1)*32768).mean(0).argmax()


def test_a_segment_of_no_samples_is_left_out(speech, tmp_path):
    (speech/'segments').write_text('a r0 0.25 0.75\nb r0 0.500001 0.500002\nc r1 2.3 2.4\nd r1 2.2 -1\n')
    (speech/'utt2spk').write_text('a s\nb s\nc s\nd s\n')
    (speech/'text').unlink()
    assert make_features(speech, tmp_path/'out', Features()) == ['b', 'c', 'd']


@pytest.mark.parametrize('claim', [0x7fffffff, 0xffffffff, 0x7ffff000])
def test_the_header_of_a_stream_promises_too_much(speech, tmp_path, claim):
    path = tmp_path/'audio/r0.wav'
    raw = bytearray(path.read_bytes())
    at = raw.index(b'data') + 4
    raw[at:at + 4] = claim.to_bytes(4, 'little')
    path.write_bytes(raw)
    make_features(speech, tmp_path/'out', Features())
    assert len(Scp(tmp_path/'out/feats.scp').matrix('r0')) == 98


def test_the_loudest_samples_have_features():
    for loudest in 1, LOUDEST:
        x = np.float32(loudest*FULL_SCALE*0.99)*np.sign(np.sin(np.arange(RATE)*0.05)).astype(np.float32)
        for kind in 'fbank', 'mfcc':
            assert np.isfinite(Features(kind)(x)).all()


def test_compression(speech, tmp_path):
    make_features(speech, tmp_path/'plain', Features())
    make_features(speech, tmp_path/'small', Features(), compress=True)
    assert (tmp_path/'small/feats.ark').stat().st_size < 0.3*(tmp_path/'plain/feats.ark').stat().st_size
    plain, small = (Scp(tmp_path/name/'feats.scp').matrix('r1') for name in ('plain', 'small'))
    np.testing.assert_allclose(small, plain, atol=np.ptp(plain)/64)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_the_source_is_never_written_over(speech, tmp_path):
    (tmp_path/'link').symlink_to(speech)
    before = contents(tmp_path)
    for out in speech, tmp_path/'link':
        with pytest.raises(BadInput, match='is the source itself'):
            make_features(speech, out, Features(), force=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize('name', ['text', 'feats.ark', 'cmvn.scp', 'segments'])
def test_nothing_is_replaced_without_force_and_nothing_stale_is_left_with_it(speech, tmp_path, name):
    out = tmp_path/'out'
    out.mkdir()
    (out/name).write_text('mine\n')
    (out/'notes').write_text('mine\n')
    with pytest.raises(BadInput, match=f'out: has {name} already; use --force'):
        make_features(speech, out, Features())
    assert sorted(p.name for p in out.iterdir()) == sorted([name, 'notes'])
    make_features(speech, out, Features(), force=True)
    make_features(speech, tmp_path/'fresh', Features())
    assert {p.name for p in out.iterdir()} == {p.name for p in (tmp_path/'fresh').iterdir()} | {'notes'}
    assert 'mine' not in (out/'text').read_text()


def test_a_recording_that_two_places_hold(speech, tmp_path, monkeypatch):
    (tmp_path/'elsewhere/audio').mkdir(parents=True)
    soundfile.write(tmp_path/'elsewhere/audio/r0.wav', tone(1), RATE)
    monkeypatch.chdir(tmp_path/'elsewhere')
    with pytest.raises(BadInput, match=r'recording r0: audio/r0.wav is both \./audio/r0.wav and .*; write absolute'):
        make_features(speech, tmp_path/'out', Features())
    monkeypatch.chdir(tmp_path)
    make_features('train', 'out', Features())
    assert table('out/wav.scp')['r0'] == str(tmp_path/'audio/r0.wav')


def test_a_segment_may_end_half_a_second_too_late(speech, tmp_path):
    (speech/'utt2spk').write_text('a s\n')
    (speech/'text').unlink()
    (speech/'segments').write_text('a r0 0.5 1.49\n')
    make_features(speech, tmp_path/'out', Features())
    assert len(Scp(tmp_path/'out/feats.scp').matrix('a')) == 48
    (speech/'segments').write_text('a r0 0.5 1.51\n')
    with pytest.raises(BadInput, match=r'ends after 1\.00 s'):
        make_features(speech, tmp_path/'late', Features())


def test_tasks_are_submitted_a_few_at_a_time():
    submitted = []

    class Done:
        def __init__(self, task):
            submitted.append(task)
            self.task = task

        def result(self):
            return self.task

    for n, result in enumerate(ordered(Done, range(50), 4)):
        assert result == n and len(submitted) <= n + 4
    assert n == 49


def test_no_process_for_one_recording(speech, tmp_path, monkeypatch):
    monkeypatch.setattr('hpcasr.data.features.ProcessPoolExecutor', None)
    (speech/'wav.scp').write_text('r0 audio/r0.wav\n')
    make_features(speech, tmp_path/'out', Features(), jobs=8)


def test_parents_made_for_nothing_are_removed(speech, tmp_path):
    broken_audio(speech)
    with pytest.raises(BadInput):
        make_features(speech, tmp_path/'exp/fbank/train', Features())
    assert not (tmp_path/'exp').exists()


@pytest.mark.parametrize('options, line', [
    (Features(num_mel_bins=400), 'too large'), (Features('mfcc', num_ceps=41), 'num-ceps cannot be larger')])
def test_impossible_filters(speech, tmp_path, options, line):
    with pytest.raises(BadInput, match=line):
        make_features(speech, tmp_path/'out', options)


def broken_audio(speech):
    (speech.parent/'audio/r1.flac').write_bytes(b'fLaC' + bytes(100))


def missing_audio(speech):
    (speech.parent/'audio/r1.flac').unlink()


def stereo(speech):
    soundfile.write(speech.parent/'audio/r1.flac', np.zeros((800, 2)), RATE)


def pipe(speech):
    (speech/'wav.scp').write_text(f'r0 audio/r0.wav\nr1 touch {speech}/ran; cat audio/r1.flac |\n')


def unknown_recording(speech):
    (speech/'segments').write_text('a r0 0 1\nb r7 0 1\n')


def no_interval(speech):
    (speech/'segments').write_text('a r0 0.5 0.2\n')


def too_late(speech):
    (speech/'segments').write_text('a r0 0.5 1.2\nb r1 0.5 2.6\n')


def malformed(speech):
    (speech/'segments').write_text('a r0 x y\n')


def infinite(speech):
    (speech/'segments').write_text('a r0 nan 1\n')


def endless(speech):
    (speech/'segments').write_text('a r0 0 inf\n')


def streamed(speech):
    """As a program that cannot seek leaves it: the header says 0 bytes of data."""
    raw = bytearray((speech.parent/'audio/r0.wav').read_bytes())
    at = raw.index(b'data') + 4
    raw[at:at+4] = bytes(4)
    (speech.parent/'audio/r0.wav').write_bytes(raw)


def telephone(speech):
    soundfile.write(speech.parent/'audio/r1.flac', tone(1, 8000), 8000)


def spoilt(value):
    def harm(speech):
        x = tone(2, seed=1)
        x[7000] = value
        soundfile.write(speech.parent/'audio/r1.wav', x, RATE, 'FLOAT')
        (speech/'wav.scp').write_text('r0 audio/r0.wav\nr1 audio/r1.wav\n')
    return harm


def half(speech):
    path = speech.parent/'audio/r0.wav'
    path.write_bytes(path.read_bytes()[:16044])


def half_flac(speech):
    path = speech.parent/'audio/r1.flac'
    path.write_bytes(path.read_bytes()[:20000])


def starts_too_late(speech):
    (speech/'segments').write_text('a r0 0.5 1.2\nb r1 2.6 -1\n')


def empty_segment(speech):
    (speech/'segments').write_text('a r0 0.5 0.5\n')


def starts_before(speech):
    (speech/'segments').write_text('a r0 -0.1 0.5\n')


def short(speech):
    for name in 'r0.wav', 'r1.flac':
        soundfile.write(speech.parent/'audio'/name, tone(0.02), RATE)


def no_recordings(speech):
    (speech/'wav.scp').write_text('')


def no_segments(speech):
    (speech/'segments').write_text('')


def no_speakers(speech):
    (speech/'utt2spk').unlink()


def two_speakers(speech):
    (speech/'utt2spk').write_text('r0 r0 r1\nr1 r1\n')


@pytest.mark.parametrize('jobs', [1, 2])
@pytest.mark.parametrize('harm, line', [
    (infinite, 'utterance a: nan'), (endless, r'utterance a: 0.0 \.\. inf s'), (no_recordings, 'has no recordings'),
    (streamed, 'recording r0: .*r0.wav: has no samples, .*sox --ignore-length FILE'),
    (telephone, 'recording r1: .*has 8000 Hz, .*use --sample-rate 8000'), (no_segments, 'has no utterances'),
    (short, 'no utterance is as long as a window'), (no_speakers, 'utt2spk: No such file'),
    (two_speakers, "utterance r0: expected one word, its speaker, got 'r0 r1'"),
    (broken_audio, 'recording r1: .*not readable as wav'), (missing_audio, 'recording r1: audio/r1.flac: no such file'),
    (stereo, 'recording r1: .* has 2 channels; make it mono'), (pipe, 'recording r1: .*--allow-pipes'),
    (unknown_recording, 'utterance b: recording r7 is not in wav.scp'), (no_interval, 'utterance a: 0.5 .. 0.2 s'),
    *((spoilt(x), 'recording r1: .*r1.wav: has samples that are not finite') for x in (np.nan, np.inf, -1e30)),
    (half, 'recording r0: .*r0.wav: is truncated, its header promises 32000 bytes'),
    (half_flac, 'recording r1: .*not readable as wav'), (starts_too_late, 'ends after 2.00 s, utterance b at 2.60 s'),
    (empty_segment, 'utterance a: 0.5 .. 0.5 s is not an interval'), (starts_before, 'utterance a: -0.1 .. 0.5 s'),
    (too_late, 'ends after 2.00 s, utterance b at 2.60 s'), (malformed, 'utterance a: expected RECORDING START END')])
def test_bad_input_leaves_nothing(speech, tmp_path, harm, line, jobs):
    harm(speech)
    with pytest.raises(BadInput, match=line):
        make_features(speech, tmp_path/'out', Features(), jobs)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['audio', 'train']
    assert not (speech/'ran').exists()


def test_allowed_pipes(speech, tmp_path):
    (speech/'wav.scp').write_text(f'r0 {tmp_path}/audio/r0.wav\nr1 cat {tmp_path}/audio/r1.flac |\n')
    make_features(speech, tmp_path/'out', Features(), allow_pipes=True)
    np.testing.assert_array_equal(Scp(tmp_path/'out/feats.scp').matrix('r1'), Features()(tone(2, seed=1)*32768))
