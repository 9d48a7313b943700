"""espeak-ng through ctypes: text to samples, with the sample at which every word and phone begins.

espeak-ng is a program of others under the GPL, version 3; nothing of it is part of hpcasr.  The package espeakng-loader
(`pip install "hpcasr[demo]"`) brings the library and its data; speak_lib.h of espeak-ng describes what is called here.

The library is one per process and keeps state from one text to the next: what it says depends on all it said before.
"""

import ctypes
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcasr.errors import BadInput

SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback, nothing to a sound card
OPTIONS = 0x1 | 0x8000  # tell about phones; do not exit() where the data are missing
WORD, PHONE = 1, 7  # types of events
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4  # parameters
CHARACTERS, UTF8 = 1, 1
ANEW = 'install it anew with `pip install --force-reinstall espeakng-loader`'
LOUDNESS = 50  # of 100, the default, at which some voices are cut off at full scale


class Name(ctypes.Union):
    _fields_ = ('number', ctypes.c_int), ('name', ctypes.c_char_p), ('string', ctypes.c_char*8)


class Event(ctypes.Structure):
    _fields_ = (('type', ctypes.c_int), ('unique_identifier', ctypes.c_uint), ('text_position', ctypes.c_int),
                ('length', ctypes.c_int), ('audio_position', ctypes.c_int), ('sample', ctypes.c_int),
                ('user_data', ctypes.c_void_p), ('id', Name))


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


class Mark(NamedTuple):
    """Something begins at `sample`: a word (`phone` is '') or a phone, by espeak's mnemonic with its stress."""

    sample: int
    phone: str


class Espeak:
    """The library, initialized.  Raises BadInput where it is missing or does not start.

    rate      samples per second of what it says
    version   as the library tells it
    """

    def __init__(self):
        library, self.data = locate()
        self.lib = load(library)
        self.rate = self.lib.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(self.data), OPTIONS)
        if self.rate <= 0:
            raise BadInput(f'{self.data}: espeak-ng cannot read its data (it bears no path of 160 characters, this has '
                           f'{len(self.data)}); {ANEW}')
        self.version = self.lib.espeak_Info(None).decode().split()[0]
        self.heard, self.marks = [], []
        self.callback = CALLBACK(self.hear)  # must live as long as the library calls it
        self.lib.espeak_SetSynthCallback(self.callback)

    def variants(self):
        """The names of the voice variants that there are."""
        return {path.name for path in Path(self.data, 'voices', '!v').glob('*')}

    def use(self, voice, rate, pitch, span):
        """Speak as `voice`, one of espeak's and a variant (`gmw/en-US+f2`): words a minute, 0..100, 0..100."""
        if self.lib.espeak_SetVoiceByName(voice.encode()):
            raise BadInput(f'{self.data}: espeak-ng {self.version} has no voice {voice}')
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, span), (VOLUME, LOUDNESS)):
            self.lib.espeak_SetParameter(parameter, value, 0)

    def say(self, text):
        """Samples int16 [n] at `rate`, and the [Mark]s in the order of time."""
        self.heard, self.marks = [np.zeros(0, np.int16)], []
        data = text.encode() + b'\0'
        self.lib.espeak_Synth(data, len(data), 0, CHARACTERS, 0, UTF8, None, None)
        self.lib.espeak_Synchronize()
        return np.concatenate(self.heard), self.marks

    def hear(self, samples, n, events):
        if samples and n > 0:
            self.heard.append(np.ctypeslib.as_array(samples, (n,)).copy())
        i = 0
        while events[i].type:
            event = events[i]
            if event.type == WORD:
                self.marks.append(Mark(event.sample, ''))
            elif event.type == PHONE and event.id.string:
                self.marks.append(Mark(event.sample, event.id.string.decode('utf-8', 'replace')))
            i += 1
        return 0


def locate():
    """Paths of the library and of its data."""
    try:
        import espeakng_loader
        return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    except ImportError:
        raise BadInput('espeak-ng is not installed; install it with `pip install "hpcasr[demo]"`') from None
    except RuntimeError as e:
        raise BadInput(f'espeak-ng is not whole ({e}); {ANEW}') from None


def load(path):
    try:
        lib = ctypes.CDLL(path)
    except OSError as e:
        raise BadInput(f'{path}: espeak-ng does not load ({e}); {ANEW}') from None
    lib.espeak_Info.restype = ctypes.c_char_p
    lib.espeak_Synth.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint,
                                 ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)
    return lib
