"""Do the clocks of the machines agree?  make, caches and logs compare times of files from several of them."""

import time

from hpcasr.doctor.finding import ok, warning

TURNS, APART = 5, 1.0  # readings, the best counts; seconds


def skew(comm, job):
    if job.machines == 1:
        return ok('clocks', 'one machine, one clock')
    return judge(readings(comm), comm.nodes)


def readings(comm):
    """[TURNS][L] seconds, read by all ranks right after a barrier."""
    found = []
    for _ in range(TURNS):
        comm.barrier()
        found.append(comm.allgather(time.time()))
    return found


def judge(readings, machines):
    """Of the turn in which the ranks were least apart; a rank that came late would look like a wrong clock."""
    best = min(readings, key=lambda times: max(times) - min(times))
    rank = max(range(len(best)), key=lambda rank: abs(best[rank] - best[0]))
    apart = max(best) - min(best)
    if apart > APART:
        return warning('clocks', f'that of the machine of rank {rank} is {best[rank] - best[0]:+.1f} s from that of '
                       'rank 0', 'synchronize the clocks (chronyc makestep, ntpdate); times of files and logs will mix')
    return ok('clocks', f'{max(machines) + 1} machines within {1e3*apart:.2g} ms')
