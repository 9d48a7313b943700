"""What brings codes from learner to learner."""


class Carrier:
    """x ← Σ_l x_l, in large tensors, as far as codes say it; one class for each way that codes can go.

    start    start(x, lo, hi, step) -> finish(): begin it in the tensors, or pieces of them, that end in lo+1 .. hi
    takes    methods of --compress that go this way unless an algorithm has one of its own
    idea     in words
    first    Feedback of what this learner sends
    second   Feedback of what it answers to all, if it does
    warm     a vector, the same on all learners, with which the next step begins, if there is one
    """

    takes, idea = (), ''
    first = second = warm = None
