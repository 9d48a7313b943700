"""`hpcasr doctor`: what is wrong with this machine, its MPI and its launcher, before anybody trains on them.

run.py examines; isolate.py keeps a check that crashes or hangs from ending the others; a file for each group of checks.
"""
