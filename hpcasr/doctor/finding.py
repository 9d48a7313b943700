"""What one check has found."""

from dataclasses import asdict, dataclass, replace

LEVELS = 'ok', 'warning', 'error'  # an error: training fails, is wrong, or takes many times as long


@dataclass(frozen=True)
class Finding:
    """A line of the doctor: the check, one of LEVELS, what was found, what to do; the ranks that say so."""

    name: str
    level: str
    found: str
    advice: str = ''
    ranks: tuple = ()

    def at(self, *ranks):
        return replace(self, ranks=ranks)

    def plain(self):
        return asdict(self) | {'ranks': list(self.ranks)}


def ok(name, found):
    return Finding(name, 'ok', found)


def warning(name, found, advice):
    return Finding(name, 'warning', found, advice)


def error(name, found, advice):
    return Finding(name, 'error', found, advice)


def broken(name, how):
    """Of a check that did not come to an answer."""
    slow = 'look on stderr whether another rank has gone; if it is only slow, give --limit more'
    gone = 'look on stderr for what the library says; start with another module of the site, or report it'
    return error(name, f'the check itself {how}', slow if 'did not end' in how else gone)


def refused(name, refusal):
    """Of a BadInput, whose first part says what it is and the others what to do."""
    found, _, advice = str(refusal).partition('; ')
    return error(name, found, advice)


def from_plain(values):
    return Finding(**values | {'ranks': tuple(values['ranks'])})
