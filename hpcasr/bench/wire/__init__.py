"""Microbenchmarks of MPI: one file per family of tests, and what all of them share."""
