"""What a benchmark says of an answer that is not right."""

from hpcasr.errors import Agreed, CheckFailed


class Wrong(Agreed, CheckFailed):
    """The answer is wrong, which every rank knows: it is not timed."""
