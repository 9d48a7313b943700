"""SLURM job templates."""

if __name__ != 'hpcasr.jobs':
    raise ImportError(f'import hpcasr.jobs, not {__name__}')
