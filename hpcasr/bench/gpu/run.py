"""All sections, one after the other: a crash of one is a finding, not the end, and what was found is on disk."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from time import monotonic, strftime

from hpcasr import __version__, launcher
from hpcasr.bench.gpu.report import cell, lines
from hpcasr.bench.gpu.sections import chosen
from hpcasr.errors import AgreedBadInput, BadInput

LEAST = 15  # seconds: less is not worth starting a section for
LAUNCHER = 'PMI', 'PMIX', 'OMPI', 'PRTE', 'HYDRA', 'MPIR', 'SLURM'  # sections start jobs of their own
BAD_INPUT = 2  # exit status
SAID = 2000  # characters of what a section that failed has said


@dataclass(frozen=True)
class Trial:
    """only: names of sections, () for all; seconds for all of them; folder for the results; sizes: of SIZES."""

    only: tuple = ()
    seconds: float = 480.0
    folder: str = 'exp/gpu'
    sizes: str = 'full'


def bench(trial, say):
    """({'sections': {name: {'rows', 'seconds', ...}}, ...}, path of the JSON); say(line) as they end.

    Raises BadInput where there is no GPU that can be used.
    """
    refuse_ranks()
    begin, sections = monotonic(), chosen(trial.only)
    folder = pathlib.Path(trial.folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = {'version': __version__, 'date': strftime('%Y-%m-%d'), 'sizes': trial.sizes, 'sections': {}}
    path = folder/'gpu.json'
    for name, section in sections.items():
        left = trial.seconds - (monotonic() - begin)
        found['sections'][name] = perform(name, section, trial.sizes, left)
        if name == 'machine':
            path = folder/f'{title(named(found["sections"][name]))}.json'
        found['seconds'] = round(monotonic() - begin, 1)
        write(path, json.dumps(found, indent=1) + '\n')
        for line in lines(name, found['sections'][name]):
            say(line)
    text = [line for name, of in found['sections'].items() for line in lines(name, of)]
    write(path.with_suffix('.txt'), '\n'.join(text) + '\n')
    return found, path


def refuse_ranks():
    """Raise BadInput where this process is one of several."""
    started, variable = launcher.size(os.environ)
    if (started or 1) > 1:
        raise AgreedBadInput(f'{variable}={started}: bench gpu starts ranks itself; start it without mpirun or srun')


def write(path, text):
    """All of it or nothing: who looks while a section runs sees what is complete."""
    part = path.with_suffix('.part')
    part.write_text(text)
    part.replace(path)


def perform(name, section, sizes, left):
    """{'what', 'rows': what it has found until it ended, 'seconds', and what went wrong: 'status', 'trouble'}."""
    if left < LEAST:
        return {'what': section.what, 'rows': [], 'seconds': 0.0, 'trouble': 'left out: no time was left'}
    begin = monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows = pathlib.Path(folder)/'rows'
        rows.touch()
        status, said = watch([sys.executable, '-m', 'hpcasr.bench.gpu.section', name, str(rows), sizes],
                                min(section.seconds, left), environment(section))
        found = [json.loads(line) for line in rows.read_text().splitlines() if line.endswith('}')]
    told = {'status': status, 'trouble': said or manner(status)} if status else {}
    return {'what': section.what, 'rows': found, 'seconds': round(monotonic() - begin, 1), **told}


def watch(command, seconds, env):
    """(exit status, '' or what went wrong) of a process, which is ended with all that it has started."""
    with tempfile.TemporaryFile('w+') as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=env,
                                   start_new_session=True)
        try:
            status, late = process.wait(seconds), ''
        except subprocess.TimeoutExpired:
            status, late = 124, f'ended after {seconds:.0f} s; '
        finally:
            end(process)
        said.seek(0)
        return status, late + said.read()[-SAID:].strip()


def manner(status):
    """How a process ended that said nothing."""
    return f'ended by signal {-status}' if status < 0 else f'status {status}'


def end(process):
    """End a process and all of its session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # nobody is left
        pass
    process.wait()


def environment(section):
    """Ours, without what a launcher left in it; one BLAS thread, or as many as there are cores."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHER) or k.startswith('PRTE_') or 'ROOT' in k}
    threads = str(len(os.sched_getaffinity(0)) if section.cores else 1)
    return own | {name: threads for name in ('OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS')}


def named(machine):
    """The name of the GPU; `unknown` where this section broke.  Raises BadInput where no GPU can be used."""
    name = next((row['gpu'] for row in machine['rows'] if 'gpu' in row), None)
    if name is None and machine.get('status') == BAD_INPUT:
        raise BadInput(machine['trouble'].splitlines()[-1].removeprefix('hpcasr: error: '))
    return name or 'unknown'


def title(gpu):
    """`gpu-nvidia-h200` of `NVIDIA H200`."""
    return 'gpu-' + re.sub(r'[^a-z0-9]+', '-', gpu.lower()).strip('-')


def failures(found):
    """Of all sections: what was wrong, and sections that did not come to their end; in words."""
    for name, section in found['sections'].items():
        if section.get('trouble'):
            yield f'{name}: {section["trouble"].splitlines()[-1]}'
        yield from (f'{name}: {row["what"]} is off by {cell(row["off"])}, more than {row["bound"]:g}'
                    for row in section['rows'] if row.get('right') is False)
