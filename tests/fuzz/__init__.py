"""Hostile files: every reader gets real files that were spoilt, in a process that may not harm anything.

    python -m tests.fuzz                     5,000 cases of every reader (`make fuzz`)
    python -m tests.fuzz store audio --cases 200 --seed 7
    python -m tests.fuzz store --only 4711   one case again, as it was

A case is a function of the seed, the reader and its number.  It may end in success or in one BadInput; everything else
is an escape: another exception, a signal, more time or memory than a case may take, a command that is run, a file that
is written outside of the folder for output.

seeds.py    real files, made by hpcasr itself       mutate.py   how they are spoilt
readers.py  who reads them                          places.py   what may lie where a file should be
cell.py     the process in which a case runs        traced.py   lines of the readers that were reached
"""
