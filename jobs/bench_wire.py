from hpcasr.jobs.template import Template
from hpcasr.jobs.words import quoted

TESTS = ('latency bw bibw put_latency get_latency get_bw fop_latency ticket allreduce sum_ordered '
         '--target idle,computing').split()


class BenchWire(Template):
    """Measure MPI between two nodes, before a training run.

    After --, --baseline OLD.json --tolerance 10% lets it fail where a median is worse by more than that.
    """

    name = 'bench-wire'
    nodes, time, grace = 2, '00:30:00', 0

    def directives(self, job, site):
        return [*super().directives(job, site), ('exclusive', None)]  # a neighbour would be measured, too

    def arguments(self, job):
        return ['bench', 'wire', *TESTS, '--json "$out/wire.json"', '--csv "$out/wire.csv"',
                '--machine "$out/machine.json"', *quoted(job.argv)]

    def body(self, job, site):
        return [f'{self.place(job)}\nmkdir -p "$out"', self.step(job, site)]

    def place(self, job):
        return super().place(job).splitlines()[0]
