"""A job script as a pure function of its template, its job and its site."""

import difflib
import shlex

from hpcasr.errors import BadInput
from hpcasr.jobs.apptainer import Apptainer
from hpcasr.jobs.array import Array
from hpcasr.jobs.bench_wire import BenchWire
from hpcasr.jobs.chain import Chain
from hpcasr.jobs.gpu import Gpu
from hpcasr.jobs.multi_node import MultiNode
from hpcasr.jobs.preemptible import Preemptible
from hpcasr.jobs.single_node import SingleNode

TEMPLATES = {cls.name: cls for cls in [SingleNode, MultiNode, Gpu, Array, Preemptible, Chain, Apptainer, BenchWire]}


def get_template(name):
    """The template called `name`; raises BadInput naming the nearest one."""
    if name not in TEMPLATES:
        near = difflib.get_close_matches(name, TEMPLATES, 1, 0)[0]
        raise BadInput(f'{name}: there is no such template; did you mean {near}? (there are: {", ".join(TEMPLATES)})')
    return TEMPLATES[name]()


def render(name, job, site):
    """The text of a batch script.  Raises BadInput where template, job and site do not fit each other."""
    template = get_template(name)
    template.check(job, site)
    directives = [f'--{option}' if value is None else f'--{option}={value}'
                  for option, value in template.directives(job, site)]
    head = ['#!/bin/bash', f'# {template.about()} (hpcasr jobs render {template.name})',
            *(f'#SBATCH {line}' for line in dict.fromkeys([*directives, *site.slurm.sbatch]))]
    return '\n\n'.join(['\n'.join(head), setup(site), *template.body(job, site)]) + '\n'


def setup(site):
    """The lines that make this site's programs and variables known; before set -u, which modules often do not bear."""
    purge = ['module purge']*bool(site.modules)
    modules = [f'module load {shlex.quote(name)}' for name in site.modules]
    venv = [f'source {shlex.quote(site.venv + "/bin/activate")}']*bool(site.venv)
    exports = [f'export {name}={shlex.quote(value)}' for name, value in site.environment.items()]
    lines = [*purge, *modules, *site.setup, *venv, *exports]
    return '\n'.join(['set -eo pipefail', *lines, 'set -u']) if lines else 'set -euo pipefail'
