"""All tests by name."""

from hpcasr.bench.wire import collectives, neighbours, onesided, pairs

TESTS = {cls.name: cls for cls in (
    pairs.Latency, pairs.Bandwidth, pairs.BothWays, pairs.Many,
    collectives.Allreduce, collectives.SumOrdered, collectives.ReduceScatter, collectives.Allgather,
    collectives.Alltoall, collectives.Bcast, collectives.Barrier, collectives.Iallreduce, neighbours.Neighbor,
    onesided.Put, onesided.Get, onesided.Accumulate, onesided.PutBandwidth, onesided.GetBandwidth,
    onesided.AccumulateBandwidth, onesided.FetchAndOp, onesided.CompareAndSwap, onesided.Ticket)}
