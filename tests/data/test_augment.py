"""Masks: where they lie, how often, and that they depend on nothing but the sample's place in the epoch."""

from dataclasses import replace

import numpy as np
import pytest

from hpcasr.config import Data
from hpcasr.data.augment import Masks, get_masks, stretch
from hpcasr.data.loader import Loader
from hpcasr.data.sampler import Chunks
from hpcasr.data.work import StaticWork
from tests.small import corpus


def masked(position, time=0, band=0, blocks=3, shape=(12, 15)):
    x = np.ones(shape, np.float32)
    Masks(Data(time_mask=time, band_mask=band), blocks)(x, 0, position)
    return x


def test_a_stretch_of_time_is_masked_in_all_features():
    for position in range(50):
        x = masked(position, time=4)
        frames = np.flatnonzero(~x.any(1))
        assert x.sum() == 15*(12 - len(frames)) and len(frames) <= 4
        assert not len(frames) or frames[-1] - frames[0] == len(frames) - 1


def test_a_band_is_masked_alike_in_features_and_derivatives():
    for position in range(50):
        x = masked(position, band=3)
        assert (x == x[0]).all() and (x[0].reshape(3, 5) == x[0, :5]).all() and x[0, :5].sum() >= 2


def test_every_length_and_every_place_is_as_likely():
    rng = np.random.default_rng(0)
    drawn = [stretch(rng, 5, 2) for _ in range(6000)]
    lengths = np.bincount([hi - lo for lo, hi in drawn])
    assert len(lengths) == 3 and (abs(lengths - 2000) < 200).all()
    places = np.bincount([lo for lo, hi in drawn if hi - lo == 2])
    assert len(places) == 4 and (abs(places - 500) < 100).all()


@pytest.mark.parametrize('shape', [(0, 15), (1, 15), (12, 3)])
def test_masks_wider_than_the_sample(shape):
    for position in range(20):
        masked(position, 100, 100, shape=shape)


def test_nothing_asked_nothing_masked():
    data = corpus(3)
    assert get_masks(Data(), data) is None and get_masks(Data(band_mask=1), data).blocks == 1
    data.frontend, data.splice = {'deltas': 2}, (5, 5)
    assert get_masks(Data(time_mask=1), data).blocks == 33


def test_how_many_learners_there_are_changes_nothing():
    """Sample k of an epoch looks the same, whoever gets it; another epoch masks it differently."""
    data = corpus(40)
    config = replace(Data(), time_mask=3, band_mask=2)
    chunks = Chunks(data, 7)

    def epoch(size, number=0):
        out = {}
        for rank in range(size):
            work = StaticWork(len(chunks), 3, rank, size)
            work.epoch = number
            for claim, batch in Loader(data, chunks, work, seed=5, masks=get_masks(config, data)):
                out |= {claim.lo + b: batch.x[:, b].tobytes() for b in range(batch.samples)}
        return out
    one = epoch(1)
    assert one == epoch(3) == epoch(1)
    assert sum(map(bool, set(one.values()) ^ set(epoch(1, 1).values()))) > len(one)
