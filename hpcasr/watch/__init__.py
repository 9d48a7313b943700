"""Who holds up the job: what every rank does, seen by the process beside it (flight, board, stacks, verdict, guard)."""
