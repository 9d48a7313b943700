"""How far an experiment has come, and how fast: from config.toml, metrics.jsonl, checkpoints, DONE and PAUSED."""

import fcntl
import json
import pathlib
import time
import tomllib
from dataclasses import dataclass

RECENT = 20  # lines of metrics over which speed is taken


@dataclass(frozen=True)
class Progress:
    """epoch, epochs   where it is, and where it ends; None: unknown
    samples            global samples so far
    speed              frames per second, of late
    left               seconds of training that remain at that speed
    checkpoint         name of the newest; age: seconds since it was written
    ce, fer            held-out scores of the last epoch
    training           whether a process of this machine is at work there
    end                'DONE', 'PAUSED' or ''
    """

    epoch: float | None = None
    epochs: int | None = None
    samples: int = 0
    speed: float | None = None
    left: float | None = None
    checkpoint: str = ''
    age: float | None = None
    ce: float | None = None
    fer: float | None = None
    training: bool = False
    end: str = ''


def progress(path):
    """The Progress of the experiment at `path`; nothing is known of one that has not begun."""
    path = pathlib.Path(path)
    lines, epochs = metrics(path), wanted(path)
    end = next((name for name in ('DONE', 'PAUSED') if (path/name).exists()), '')
    last = lines[-1] if lines else {}
    held = next((line for line in reversed(lines) if line['kind'] == 'epoch'), {})
    speed, pace = rates([line for line in lines if line['kind'] == 'step' and 'seconds' in line][-RECENT:])
    epoch = last.get('epoch')
    left = (epochs - epoch)*pace if None not in (epochs, epoch, pace) and end != 'DONE' else None
    name, age = newest(path)
    return Progress(epoch, epochs, last.get('samples', 0), speed, left, name, age, held.get('ce'), held.get('fer'),
                    held_by_a_process(path), end)


def metrics(path):
    """The lines of metrics.jsonl that are whole."""
    try:
        text = (path/'metrics.jsonl').read_bytes()
    except OSError:
        return []
    return [line for line in map(parsed, text.splitlines()) if line]


def parsed(line):
    try:
        entry = json.loads(line)
        return entry if {'kind', 'samples', 'epoch'} <= entry.keys() else None
    except (ValueError, AttributeError):
        return None


def wanted(path):
    """The epochs that were asked for, or None."""
    try:
        return int(tomllib.loads((path/'config.toml').read_text())['train']['epochs'])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def rates(lines):
    """(frames per second, seconds per epoch) over lines that follow each other; (None, None) where none can be said."""
    seconds = sum(line['seconds'] for line in lines[1:])
    if not seconds:  # one line alone began where training did
        seconds, lines = sum(line['seconds'] for line in lines), [{'epoch': 0.0}, *lines]
    epochs = lines[-1]['epoch'] - lines[0]['epoch']
    if seconds <= 0 or epochs <= 0:
        return None, None
    frames = sum(line['frames_per_second']*line['seconds'] for line in lines[1:])
    return frames/seconds, seconds/epochs


def newest(path):
    """(name, age in seconds) of the newest checkpoint that is complete; ('', None) without one."""
    found = sorted(path.glob('checkpoints/[0-9]*/manifest.json'))
    try:
        return (found[-1].parent.name, time.time() - found[-1].stat().st_mtime) if found else ('', None)
    except OSError:  # rotated away just now
        return '', None


def held_by_a_process(path):
    """Whether the lock of the experiment is held; on some file systems only by a process of this machine."""
    try:
        with open(path/'.lock') as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
