import numpy as np
import pytest

from hpcasr.config import Optim
from hpcasr.optim import OPTIMIZERS, adam, sgd

N = 40_000  # entries: more than two blocks


def gradients(steps, n=N, dtype='float64'):
    return np.random.default_rng(0).standard_normal((steps, n)).astype(dtype)


def test_sgd(make_optimizer):
    """After steps of rates a_s: x = x0 − Σ_s a_s Σ_{r<=s} μ^(s−r) g_r."""
    g, lr, mu = gradients(4), [0.1, 0.2, 0.05, 0.3], 0.8
    update, x = make_optimizer(N, momentum=mu), np.ones(N)
    for s in range(4):
        update(x, g[s], lr[s])
    expected = 1 - sum(lr[s]*sum(mu**(s - r)*g[r] for r in range(s + 1)) for s in range(4))
    np.testing.assert_allclose(x, expected, rtol=1e-10, atol=1e-13)


def test_adam(make_optimizer):
    """Moments as explicit sums: m̂_t = (1 − β₁) Σ β₁^(t−s) g_s/(1 − β₁^t)."""
    g, b1, b2, e = gradients(5), 0.7, 0.95, 1e-3
    update, x = make_optimizer(N, optimizer='adam', beta1=b1, beta2=b2, epsilon=e), np.ones(N)
    expected = x.copy()
    for t in range(1, 6):
        update(x, g[t - 1], 0.1/t)
        m = (1 - b1)*sum(b1**(t - s)*g[s - 1] for s in range(1, t + 1))/(1 - b1**t)
        v = (1 - b2)*sum(b2**(t - s)*g[s - 1]**2 for s in range(1, t + 1))/(1 - b2**t)
        expected -= 0.1/t*m/(np.sqrt(v) + e)
    np.testing.assert_allclose(x, expected, rtol=1e-10)


def test_first_step_of_adam_has_length_lr(make_optimizer):
    x = np.zeros(3)
    make_optimizer(3, optimizer='adam')(x, np.array([1e-3, -5.0, 200.0]), 0.01)
    np.testing.assert_allclose(x, [-0.01, 0.01, -0.01], rtol=1e-4)


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('name', OPTIMIZERS)
def test_resumes_bit_for_bit(name, dtype, make_optimizer):
    g = gradients(6, 100, dtype)

    def run(x, update, steps):
        for s in steps:
            update(x, g[s], 0.1)
        return x

    whole = run(np.ones(100, dtype), make_optimizer(100, dtype, optimizer=name), range(6))
    first, second = (make_optimizer(100, dtype, optimizer=name) for _ in range(2))
    x = run(np.ones(100, dtype), first, range(3))
    second.load({k: v.copy() for k, v in first.state().items()})
    assert np.array_equal(run(x, second, range(3, 6)), whole) and whole.dtype == dtype


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_gradient_is_left_alone_and_state_is_loaded_in_place(name, make_optimizer):
    g, update = gradients(1, 10)[0], make_optimizer(10, optimizer=name)
    before, memory = g.copy(), update.v
    update(np.zeros(10), g, 0.1)
    update.load({k: np.copy(v) for k, v in update.state().items()})
    assert np.array_equal(g, before) and update.v is memory


@pytest.mark.parametrize('name', OPTIMIZERS)
@pytest.mark.parametrize('at', [0, 7, 40])
def test_a_part_is_updated_as_in_the_whole(name, at, make_optimizer):
    g, whole, part = gradients(3, 40), make_optimizer(40, optimizer=name), make_optimizer(40, optimizer=name)
    x, y = np.ones(40), np.ones(40)
    for s in range(3):
        whole(x, g[s], 0.1)
        part.begin()
        part.part(y[at:at + 20], g[s, at:at + 20], 0.1, at)
    assert np.array_equal(y[at:at + 20], x[at:at + 20]) and (np.delete(y, np.s_[at:at + 20]) == 1).all()
    assert all((np.delete(v, np.s_[at:at + 20]) == 0).all() for v in part.state().values() if v.ndim)


def test_old_momentum_does_not_survive_a_time_without(make_optimizer):
    update = make_optimizer(N, momentum=0.0)
    update.load({'v': np.ones(N)})
    assert not update.state()['v'].any()


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_momentum_is_forgotten(name, make_optimizer):
    g, x = gradients(2, 10), np.ones(10)
    update = make_optimizer(10, optimizer=name)
    update(x, g[0], 0.1)
    update.forget()
    before = x.copy()
    update(x, 0*g[1], 0.1)
    assert np.array_equal(x, before)


def test_the_configuration_offers_what_exists():
    assert set(Optim.__dataclass_fields__['optimizer'].metadata['choices']) == set(OPTIMIZERS)


def test_scratch_is_smaller_than_the_model(make_optimizer):
    assert len(make_optimizer(10**6).scratch) == sgd.BLOCK and len(make_optimizer(9, optimizer='adam').scratch) == 9
    assert adam.BLOCK < 10**6
