"""What a user can mend, said in one line."""


class BadInput(Exception):
    """One line: which file, which record, what to do.  Ends the command with exit status 2, without a traceback."""


class CheckFailed(Exception):
    """The command ran, but what it checks does not hold.  Exit status 1, one line, without a traceback."""
