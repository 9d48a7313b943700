"""Two ranks, the first and the last, or pairs of all: latency bw bibw mbw_mr."""

from mpi4py import MPI

from hpcasr.bench.wire import pattern
from hpcasr.bench.wire.test import TIMES, WRONG, Test, rate

DATA, BACK = 11, 12  # tags
APART = 2**26  # bytes of messages of one window that are checked in places of their own


class Pair(Test):
    """The first rank and the last, in a communicator of their own; all others wait."""

    ends = True

    def allocate(self, n):
        size, rank = self.comm.size, self.comm.rank
        colours = [int(r not in (0, size - 1)) for r in range(size)] if self.ends else [r % (size//2) for r in
                                                                                          range(size)]
        self.pair = self.comm.split(colours)
        self.mpi, self.first = self.pair.mpi, self.pair.rank == 0
        self.active = colours[rank] == 0 or not self.ends
        self.timed, self.peer = self.active and self.first, 1 - self.pair.rank
        if self.active:
            self.reserve(n)

    def reserve(self, n):
        self.x, self.y = self.array(n), self.array(n)

    def set(self, n):
        if self.active:
            self.out, self.into = self.spec(self.x[:n]), self.spec(self.y[:n])

    def sent(self):
        return [self.x[:self.n]] if self.active else []

    def received(self):
        return [self.y[:self.n]] if self.active else []

    def check(self, turn):
        """Two runs: the second one's buffers are not what the first has left there."""
        if not self.active:
            return 0
        pattern.fill(self.x[:self.n], self.pair.rank, turn)
        self.y[:self.n] = pattern.UNTOUCHED
        self.run()
        return self.bad(turn)

    def bad(self, turn):
        return pattern.wrong(self.y[:self.n], [self.peer], turn)


class Latency(Pair):
    """Half the time of a message there and one back."""

    name, title, scale = 'latency', 'MPI Latency Test', 0.5
    columns = ('Latency (us)', 'mean_us', '.2f'), *TIMES, WRONG

    def set(self, n):
        super().set(n)
        self.send, self.receive = self.mpi.Send, self.mpi.Recv  # looked up once

    def run(self):
        if self.first:
            self.send(self.out, 1, DATA)
            self.receive(self.into, 1, DATA)
        else:
            self.receive(self.into, 0, DATA)
            self.send(self.out, 0, DATA)


class Bandwidth(Pair):
    """A window of messages, and an empty one back when all have come."""

    name, title, iterations = 'bw', 'MPI Bandwidth Test', (100, 20)
    columns = ('Bandwidth (MB/s)', 'mb_s', '.2f'), *TIMES, WRONG
    pairs, ways = 1, 1

    def set(self, n):
        super().set(n)
        self.window = self.options.window
        self.nothing = [bytearray(0), 0, MPI.BYTE]
        self.places = [self.into]*self.window if self.active else []

    def sent(self):
        return super().sent()*self.window if self.active and self.sends() else []

    def received(self):
        return super().received()*self.window if self.active and self.receives() else []

    def sends(self):
        return self.first

    def receives(self):
        return not self.first

    def run(self):
        if self.first:
            send, out = self.mpi.Isend, self.out  # looked up once
            MPI.Request.Waitall([send(out, 1, DATA) for _ in range(self.window)])
            self.mpi.Recv(self.nothing, 1, BACK)
        else:
            receive = self.mpi.Irecv
            MPI.Request.Waitall([receive(into, 0, DATA) for into in self.places])
            self.mpi.Send(self.nothing, 0, BACK)

    def check(self, turn):
        """As many messages of a window as there is room for come to places of their own."""
        if not self.active:
            return 0
        slots = max(1, min(self.window, APART//self.nbytes))
        room, usual, many = self.array(slots*self.n), self.places, self.window
        room[:] = pattern.UNTOUCHED
        pattern.fill(self.x[:self.n], self.pair.rank, turn)
        self.window, self.places = slots, [self.spec(room[k*self.n:(k + 1)*self.n]) for k in range(slots)]
        self.run()
        self.window, self.places = many, usual
        return sum(pattern.wrong(room[k*self.n:(k + 1)*self.n], [self.peer], turn)
                   for k in range(slots)) if self.receives() else 0

    def figures(self, row):
        carried = self.pairs*self.ways*self.window*row['size']
        return {'mb_s': rate(carried, row['mean_us']), 'p50_mb_s': rate(carried, row['p50_us']),
                'messages_s': 1e6*carried/row['size']/row['mean_us']}

    @classmethod
    def vectors(cls, ranks, options):
        return 3


class BothWays(Bandwidth):
    """Both send a window of messages at once."""

    name, title, ways = 'bibw', 'MPI Bi-Directional Bandwidth Test', 2

    def sends(self):
        return True

    def receives(self):
        return True

    def run(self):
        moves = [self.mpi.Irecv(into, self.peer, DATA) for into in self.places]
        moves += [self.mpi.Isend(self.out, self.peer, DATA) for _ in range(self.window)]
        MPI.Request.Waitall(moves)
        if self.first:
            self.mpi.Recv(self.nothing, 1, BACK)
        else:
            self.mpi.Send(self.nothing, 0, BACK)


class Many(Bandwidth):
    """As bw, in all pairs (r, r + L/2) at once: their sum."""

    name, title, even, ends = 'mbw_mr', 'MPI Multiple Bandwidth / Message Rate Test', True, False
    columns = ('MB/s', 'mb_s', '.2f'), ('Messages/s', 'messages_s', '.2f'), *TIMES, WRONG

    def allocate(self, n):
        super().allocate(n)
        self.pairs = self.comm.size//2

    def ready(self):
        self.comm.mpi.Barrier()
