"""Codes of gradients wait behind the shards that they are for, until somebody has reason to read these."""

import numpy as np

from hpcasr.compress import get_codec
from hpcasr.compress.feedback import Feedback
from hpcasr.compress.parcel import messages, of_servers, padded, rest, room, tensors
from hpcasr.compress.sum import share_out
from hpcasr.optim.clip import norm2

WAITING = 0  # the counter of a log: records in it
HEAD = 8  # bytes: the rate, float64


class PushLog:
    """record_l = rate, code of g_l + r_l in the matrices of a shard, all else of it as it is;  r_l ← what was not said.

    Servers of asynchronous algorithms are passive: whoever updates a shard has to get it and to put it back, which is
    many times as much as a code.  So a push is a record at the end of the shard's log, and the shard is as it would be
    after all records, in their order, wherever it is read: who reads it gets the log as well, and does their updates on
    what it has got.  Only the server, to whom that costs no message, puts the result in place of both; and, before its
    push, who finds the log full.  It is so when it has as many bytes as the shard, or a record of every learner.

    The caller holds the lock of a shard from `open` on to all that is done with its log.

    first     Feedback of what this learner sends
    waiting   [S] records in the log of each shard, as it was opened last
    sent      bytes of records that it has sent since `told` was called last
    """

    idea = 'logged: codes of slices wait with their servers'

    def __init__(self, comm, options, params, optimizer, shards, window):
        """options    a config.Compress
        shards     algorithms.shards.Shards
        window     window(comm, n, dtype, counters) -> Window
        """
        self.comm, self.options, self.shards, self.n = comm, options, shards, params.size
        self.codec, self.large = get_codec(options, optimizer.ops), tensors(params, options.least)
        self.rest, self.sent = rest(self.large, params.size), 0
        self.first = Feedback(self.codec, params.size, options.feedback)
        self.pieces = [inside(of_servers(self.large, shards.bounds), rank) for rank in shards.ranks]
        self.others = [within(self.rest, part) for part in shards.slices]
        vectors = 1 + len(optimizer.vectors())
        self.sizes = [self.record_size(s) for s in range(len(shards.ranks))]
        self.most = [min(comm.size, max(1, 4*vectors*(part.stop - part.start)//size))
                     for part, size in zip(shards.slices, self.sizes, strict=True)]
        own = dict(zip(shards.ranks, map(np.multiply, self.sizes, self.most), strict=True))
        self.waiting = [0]*len(self.sizes)
        self.records = window(comm, int(own.get(comm.rank, 0)), 'B', 1)
        self.inbox = np.empty(max(map(np.multiply, self.sizes, self.most)), np.uint8)

    def record_size(self, s):
        """Bytes of a record for shard s."""
        whole = sum(part.stop - part.start for part in self.others[s])
        return HEAD + room(self.codec, self.pieces[s]) + padded(4*whole)

    def describe(self):
        """A line for the log of the run."""
        n = sum(piece.size for piece in self.large)
        return (f'compress  {self.options.method}, {self.idea}; {n:,} parameters in {len(self.large)} tensors, '
                f'{self.n - n:,} others uncompressed' + ', no error feedback'*(not self.options.feedback)
                + f', from sample {self.options.after:,} on'*(self.options.after > 0))

    # records

    def record(self, s, g, step):
        """[bytes] what is to be said of g, the gradient in shard s, without its rate.

        step   one in which this learner makes no other record for this shard
        """
        at, record = self.shards.slices[s].start, np.zeros(self.sizes[s], np.uint8)
        pieces = self.pieces[s]
        codes = self.first.parcel([g[p.lo - at:p.hi - at] for p in pieces], pieces, self.comm.rank, step)
        exact = np.concatenate([g[:0], *(g[part.start - at:part.stop - at] for part in self.others[s])])
        record[HEAD:HEAD + codes.size] = codes
        record[record.size - padded(exact.nbytes):][:exact.nbytes] = exact.view(np.uint8)
        self.first.release()
        return record

    def open(self, s):
        self.waiting[s] = self.records.read(self.shards.ranks[s], WAITING)

    def append(self, s, record, rate):
        """Put `record` behind the log of shard s, which is not full."""
        rank, record[:HEAD] = self.shards.ranks[s], np.array([rate], np.float64).view(np.uint8)
        self.records.put(rank, record, self.waiting[s]*self.sizes[s])
        self.count(s, 1)
        self.sent += record.size*(rank != self.comm.rank)

    def full(self, s):
        return self.waiting[s] == self.most[s]

    def count(self, s, more):
        """There are so many records more."""
        self.records.fetch_add(self.shards.ranks[s], WAITING, more)
        self.waiting[s] += more

    def read(self, s, g):
        """Yield (rate, g) of each record of shard s, in the order in which they came; g is overwritten."""
        whole = self.inbox[:self.waiting[s]*self.sizes[s]]
        self.records.get(self.shards.ranks[s], whole)
        for record in whole.reshape(-1, self.sizes[s]):
            self.decode(s, record, g)
            yield float(record[:HEAD].view(np.float64)[0]), g

    def decode(self, s, record, g):
        """g ← what the record says of shard s."""
        at, pieces = self.shards.slices[s].start, self.pieces[s]
        for piece, message in zip(pieces, messages(self.codec, record[HEAD:], pieces), strict=True):
            self.codec.decode(message, g[piece.lo - at:piece.hi - at])
        sizes = [part.stop - part.start for part in self.others[s]]
        lo = self.sizes[s] - padded(4*sum(sizes))
        for part, size in zip(self.others[s], sizes, strict=True):
            g[part.start - at:part.stop - at] = record[lo:lo + 4*size].view(np.float32)
            lo += 4*size

    def empty(self, s):
        """The shard has been put back as it is after all records."""
        self.count(s, -self.waiting[s])

    # what is kept

    def told(self):
        """{name: value} for the metrics of an epoch: of all learners the 2-norm of the residuals, and bytes sent here.

        Called by all learners together.
        """
        square, sent = np.sum(self.comm.allgather([norm2(self.first.r)**2, self.sent]), axis=0).tolist()
        self.sent = 0
        return {'residual_norm': square**0.5, 'compressed_bytes': int(sent)}

    def apart(self):
        """{name: array}, not copies: what this learner alone has."""
        return self.first.state()

    def state(self):
        """Nothing else: at a meeting no record waits."""
        return {}

    def load(self, state):
        self.first.load(state)

    def regroup(self, former):
        return share_out(former, self.apart(), self.comm.size)


def inside(pieces, owner):
    """Those of one owner."""
    return [piece for piece in pieces if piece.owner == owner]


def within(parts, bounds):
    """[slice] of `parts`, what of them is within the slice `bounds`."""
    cut = [slice(max(part.start, bounds.start), min(part.stop, bounds.stop)) for part in parts]
    return [part for part in cut if part.stop > part.start]
