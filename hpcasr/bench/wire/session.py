"""Some tests, one after the other, and what is done with their figures."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import count, product

from hpcasr import machine
from hpcasr.bench.wire import header, plot, results, room, text, verdict
from hpcasr.bench.wire.catalog import TESTS
from hpcasr.bench.wire.fit import fit, require_sizes
from hpcasr.bench.wire.measure import measure
from hpcasr.bench.wire.onesided import OneSided
from hpcasr.errors import BadInput

VARIED = 'window_kind', 'sync', 'target'


@dataclass
class Outputs:
    """Files to write, None: none; and what the figures are held against.

    baseline, tolerance   file of older figures, and by which share medians may be longer
    least                 MB/s
    """

    json: str | None = None
    csv: str | None = None
    plot: str | None = None
    machine: str | None = None
    baseline: str | None = None
    tolerance: float = 0.1
    least: float | None = None

    def files(self):
        return [path for path in (self.json, self.csv, self.plot, self.machine) if path]


def run(comm, names, options, variants, outputs, say):
    """Measure the tests `names`; by all ranks together.

    variants   {option: [values]}: one-sided tests and neighbor take each of them
    say        say(line) for the text, on rank 0

    Raises BadInput before anything is measured, verdict.Failed when all is done; on all ranks alike.
    """
    plan = [(TESTS[name], variant) for name in names for variant in varied(TESTS[name], options, variants)]
    comm.compare({'tests': names, 'options': repr(options), 'variants': variants, **vars(outputs)})
    comm.together(require, plan, comm.size)
    facts, sizes = header.facts(comm), [room.sizes(comm, test, variant) for test, variant in plan]
    old = comm.first(prepare, outputs, facts, {test.name: len(of) for (test, _), of in zip(plan, sizes, strict=True)})
    comm.first(tell, header.lines(facts, options), say)
    turn, rows = count(), []
    for (test, variant), chosen in zip(plan, sizes, strict=True):
        rows += series(comm, test, variant, chosen, turn, say)
    comm.first(write, rows, facts | {'options': recorded(options, variants)}, outputs)
    comm.together(compare, old, facts, rows, outputs)
    verdict.judge(rows, old and old['rows'], outputs.tolerance, outputs.least)


def varied(test, options, variants):
    """[Options] of one test: every combination of what it can vary."""
    keys = [k for k in variants if (k in VARIED and issubclass(test, OneSided)) or
            (k == 'pattern' and test.name == 'neighbor')]
    return [replace(options, **dict(zip(keys, values, strict=True)))
            for values in product(*(variants[k] for k in keys))]


def require(plan, ranks):
    for test, options in plan:
        options.load()
        test.require(ranks, options)


def prepare(outputs, facts, names):
    """The baseline, or None, on rank 0; names {test: number of sizes}.

    Raises BadInput for whatever would be met only after measuring.
    """
    results.require_new(outputs.files())
    if outputs.plot:
        plot.require(outputs.plot)
    if outputs.machine and 'latency' not in names:
        raise BadInput('--machine is a fit of the times of latency: hpcasr bench latency --machine FILE')
    if outputs.machine:
        require_sizes(names['latency'])
    if outputs.least is not None and not any(name in TESTS and has_bandwidth(TESTS[name]) for name in names):
        raise BadInput(f'--min-bw: {", ".join(sorted(names))} tells no bandwidth')
    old = results.read(outputs.baseline) if outputs.baseline else None
    if old:
        verdict.require_comparable(outputs.baseline, old, facts)
    return old


def has_bandwidth(test):
    return any(key in ('mb_s', 'algbw_gb_s') for _, key, _ in test.columns)


def compare(old, facts, rows, outputs):
    if old:
        verdict.require_comparable(outputs.baseline, old, facts, rows)


def tell(lines, say):
    for line in lines:
        say(line)


def series(comm, cls, options, sizes, turn, say):
    """The rows of one test at all its sizes, told as they come."""
    test = comm.together(cls, comm, sizes[-1], options)  # only two of the ranks may make a window
    comm.first(tell, text.head(test), say)
    rows = []
    for nbytes in sizes:
        rows.append(measure(test, nbytes, options, next(turn)))
        if comm.rank == 0:
            say(text.line(test, rows[-1]))
    test.close()
    return rows


def recorded(options, variants):
    """What is kept of the command line."""
    kept = ('iterations', 'warm_up', 'cap', 'window', 'type', 'kind', 'validate')
    return {name: getattr(options, name) for name in kept} | {'sizes': list(options.sizes), **variants}


def write(rows, facts, outputs):
    """Every file that is wanted, on rank 0."""
    if outputs.json:
        results.write_json(outputs.json, facts | {'rows': rows})
    if outputs.csv:
        results.write_csv(outputs.csv, rows)
    if outputs.plot:
        plot.picture(rows, outputs.plot, f'{facts["mpi"]["library"]}; {facts["ranks"]} ranks')
    if outputs.machine:
        write_machine(rows, facts, outputs.machine)


def write_machine(rows, facts, path):
    import json
    found = machine.describe({k: facts[k] for k in ('created', 'mpi', 'hosts', 'machine')}, fits(rows))
    with results.created(path) as f:
        json.dump(found, f, indent=1)
        f.write('\n')


def fits(rows):
    """The fit of every series of latency."""
    found = {}
    for row in rows:
        if row['test'] == 'latency':
            found.setdefault((row['buffers'], row['type']), []).append(row)
    return [{'test': 'latency', 'buffers': buffers, 'type': dtype,
             'pieces': fit([row['size'] for row in series], [1e-6*row['p50_us'] for row in series])}
            for (buffers, dtype), series in found.items()]


def stored(paths, outputs):
    """What can be made of figures that are in files.  Raises as run()."""
    found = [results.read(path) for path in paths]
    rows, facts = [row for one in found for row in one['rows']], found[0]
    for path, one in zip(paths[1:], found[1:], strict=True):
        verdict.require_comparable(path, one, facts)
    if len({results.key(row) for row in rows}) < len(rows):
        raise BadInput(f'{", ".join(paths)}: the same test at the same size is in there twice')
    old = prepare(outputs, facts, Counter(row['test'] for row in rows))
    compare(old, facts, rows, outputs)
    write(rows, {k: v for k, v in facts.items() if k not in ('rows', 'schema')}, outputs)
    verdict.judge(rows, old and old['rows'], outputs.tolerance, outputs.least)
    return rows
