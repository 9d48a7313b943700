"""SLURM job scripts: one pure function, render.render, makes them of a template, a job and a site."""

if __name__ != 'hpcasr.jobs':
    raise ImportError(f'import hpcasr.jobs, not {__name__}')
