"""Distributed training of acoustic models for speech recognition, under mpirun or srun."""

__version__ = '0.1.0'
