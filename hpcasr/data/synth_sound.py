"""What lies between a mouth and a file: a room, a channel, noise, a level.  Nothing is delayed or changes its length.

Everything is drawn from a numpy Generator that the caller owns.  Samples are float64, full scale is 1.
"""

from dataclasses import dataclass

import numpy as np

RATE = 16000  # Hz
DIRECT = 0.002  # seconds from the direct sound to the first reflection
HUM = 50, 60  # Hz
PEAK = 0.97
LEVELS = -34, -20  # decibels of speech and noise below full scale
REVERBERATION = 0.08, 0.35  # seconds in which reflections fall by 60 dB
DIRECTNESS = 8, 20  # decibels of the direct sound over the reflections


@dataclass(frozen=True)
class Channel:
    """A speaker's microphone and room: `tilt` dB per octave, ripples (dB, periods per octave, phase), a band in Hz, and
    the response `room` [m] that follows the direct sound."""

    tilt: float
    ripples: np.ndarray
    band: tuple
    room: np.ndarray

    @classmethod
    def draw(cls, rng):
        ripples = np.stack([rng.uniform(0, 2.5, 4), rng.uniform(0.1, 0.9, 4), rng.uniform(0, 2*np.pi, 4)], 1)
        return cls(rng.uniform(-2, 2), ripples, (rng.uniform(40, 250), rng.uniform(4500, 9000)), room(rng))

    def gain(self, f):
        """Of every frequency [F] in Hz."""
        octave = np.log2(np.maximum(f, 20)/1000)
        decibel = self.tilt*octave + sum(d*np.cos(2*np.pi*p*octave + phase) for d, p, phase in self.ripples)
        low, high = self.band
        return 10**(decibel/20)/np.sqrt(1 + (low/np.maximum(f, 1))**4)/np.sqrt(1 + (f/high)**8)

    def __call__(self, x):
        """`x` [n] through room and channel, [n]; the channel shifts no phase."""
        n, m = len(x), good_length(len(x) + len(self.room))
        response = 1 + np.fft.rfft(np.concatenate([np.zeros(int(DIRECT*RATE)), self.room]), m)
        return np.fft.irfft(np.fft.rfft(x, m)*response*self.gain(np.fft.rfftfreq(m, 1/RATE)), m)[:n]


def room(rng):
    """Noise that decays: reflections [m], weaker than the direct sound of 1."""
    t = np.arange(int(rng.uniform(*REVERBERATION)*RATE))/RATE
    h = rng.normal(size=len(t))*10**(-3*t/t[-1])
    return h*np.sqrt(10**(-rng.uniform(*DIRECTNESS)/10)/np.sum(h**2))


def good_length(n):
    """At least n, and quick to transform: a small multiple of a power of two."""
    power = 1 << max(0, n.bit_length() - 3)
    return -(-n//power)*power


def coloured(rng, n, gain):
    """Gaussian noise [n] of power 1 whose spectrum `gain` gives, a function of the frequency in Hz."""
    m = good_length(n)
    spectrum = np.fft.rfft(rng.normal(size=m))*gain(np.maximum(np.fft.rfftfreq(m, 1/RATE), 20))
    return unit(np.fft.irfft(spectrum, m)[:n])


def unit(x):
    return x/np.sqrt(np.mean(x**2))


def sloping(rng, n):
    """From white (0 dB per octave) over pink to brown (-6)."""
    slope = rng.uniform(0, 1)
    return coloured(rng, n, lambda f: f**-slope)


def humming(rng, n):
    """Mains: harmonics over a pink floor."""
    t, f = np.arange(n)/RATE, rng.choice(HUM)
    tones = sum(np.sin(2*np.pi*(k*f*t + rng.uniform()))/k for k in range(1, 9))
    return unit(unit(tones) + coloured(rng, n, lambda f: f**-0.5))


def blowing(rng, n):
    """A fan: pink, with a resonance."""
    centre = 2**rng.uniform(7.5, 10.5)
    return coloured(rng, n, lambda f: f**-0.5*(1 + 4/(1 + (8*np.log2(f/centre))**2)))


def babbling(rng, n):
    """Speech-shaped, louder and softer four times a second as talkers are; nowhere silent."""
    envelope = 1 + 0.4*np.sin(2*np.pi*rng.uniform(3, 5)*np.arange(n)/RATE + rng.uniform(0, 2*np.pi))
    return unit(coloured(rng, n, lambda f: 1/(1 + (f/500)**1.5))*envelope)


NOISES = sloping, humming, blowing, babbling


def add_noise(rng, x, span, snr):
    """`x` [n] with noise of a kind drawn, whose power is `snr` dB below that of x[start:end], span = (start, end)."""
    noise = NOISES[rng.integers(len(NOISES))](rng, len(x))
    power = np.mean(x[slice(*span)]**2)
    return x + noise*np.sqrt(power*10**(-snr/10))


def recorded(rng, x):
    """`x` [n] as int16 samples, at a level that is drawn, never clipped."""
    scale = 10**(rng.uniform(*LEVELS)/20)/np.sqrt(np.mean(x**2))
    return np.round(x*min(scale, PEAK/np.abs(x).max())*32767).astype('<i2')
