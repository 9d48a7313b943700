"""What a user can mend, said in one line."""


class BadInput(Exception):
    """One line: which file, which record, what to do.  Ends the command with exit status 2, without a traceback."""


class CheckFailed(Exception):
    """The command ran, but what it checks does not hold.  Exit status 1, one line, without a traceback."""


class Agreed(Exception):
    """Every rank knows of it and leaves in order: it is said once, and nobody needs to be aborted."""


class AgreedBadInput(Agreed, BadInput):
    """Bad input that every rank has heard of."""


class Diverged(Agreed, CheckFailed):
    """The loss or the parameters are not finite, which every rank sees in the same reduction."""
