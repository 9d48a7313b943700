"""Passes over the training data: align with the model, add up, estimate a better model, with more Gaussians."""

from dataclasses import dataclass
from time import perf_counter

from hpcasr.align.mixtures import estimate, split
from hpcasr.align.sweep import Realign, sum_up

SINGLE, FULL = 0.25, 0.75  # shares of the passes: with one Gaussian per pdf, and after which there are all


@dataclass
class State:
    """What a stopped training needs to go on: passes done, the model, and the lines of the log."""

    done: int
    transform: object
    mixtures: object
    log: list


class Passes:
    """comm, share       of the training data
    folder            directory.Folder, where every pass is saved
    passes, goal      how many; Gaussians in the end
    note              takes lines for whoever watches
    """

    def __init__(self, comm, share, folder, passes, goal, note):
        self.comm, self.share, self.folder, self.note = comm, share, folder, note
        self.passes, self.goal = passes, goal

    def run(self, state, begin):
        """Go on from a State to the last pass; return the final one.  The first pass aligns with begin(state)."""
        while state.done < self.passes:
            align = Realign(self.share, state.transform, state.mixtures) if state.done else begin(state)
            self.step(state, align)
        return state

    def step(self, state, align):
        """One pass: `state` moves on, and is saved."""
        tic, gaussians = perf_counter(), state.mixtures.num_gauss
        tally, sums = sum_up(self.comm, self.share, align, state.mixtures)
        state.mixtures, occupancy = estimate(state.mixtures, sums)
        state.done += 1
        wanted = self.wanted(state.done, state.mixtures.num_pdfs)
        if state.done < self.passes and wanted > state.mixtures.num_gauss:
            state.mixtures = split(state.mixtures, occupancy, wanted)
        state.log.append(line(state.done, tally, gaussians, perf_counter() - tic, self.share.store))
        self.comm.first(self.folder.save, state)
        self.note(text(state.log[-1], self.passes))

    def wanted(self, done, num_pdfs):
        """Gaussians after so many passes: one per pdf, then more and more, then all."""
        share = (done/self.passes - SINGLE)/(FULL - SINGLE)
        return num_pdfs + round(min(max(share, 0), 1)*max(self.goal - num_pdfs, 0))


def line(done, tally, gaussians, seconds, store):
    """A line of log.jsonl."""
    return {'pass': done, 'gaussians': gaussians, **tally.facts(),
            'first_failed': None if tally.first is None else store.name(tally.first), 'seconds': seconds}


def text(row, passes):
    """The same for people."""
    failed = f'  {row["failed"]} without a path' if row['failed'] else ''
    return (f'pass {row["pass"]:>2} of {passes}  log-likelihood {row["loglike_per_frame"]:.3f} per frame  '
            f'{row["gaussians"]} Gaussians  silence {100*row["silence"]:.1f} %{failed}  {row["seconds"]:.1f} s')
