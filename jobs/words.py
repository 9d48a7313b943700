"""What may stand in a job script: words of SLURM by what they are made of, everything else quoted."""

import re
import shlex

from hpcasr.errors import BadInput

# sbatch reads quotes, # and spaces in a directive by rules of its own
PLAIN = re.compile(r'[A-Za-z0-9_.,:=@%+/\[\]~-]+')
TIME = re.compile(r'(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d+){0,2})')


def plain(what, word):
    """`word`, if it can stand in a directive as it is; raises BadInput."""
    if not isinstance(word, str) or not PLAIN.fullmatch(word):
        raise BadInput(f'{what}: {word!r} cannot stand in a job script; letters, digits and _ . , : = @ % + / [ ] ~ - '
                       'can')
    return word


def seconds(what, time):
    """Of a time limit as SLURM writes it: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S; raises BadInput."""
    match = TIME.fullmatch(time)
    if not match:
        raise BadInput(f'{what}: {time!r} is no time; write 90 (minutes), 8:00:00 or 2-12:00:00')
    parts = [int(p) for p in match['rest'].split(':')]
    if match['days'] is not None:
        units = 3600, 60, 1
    else:
        units = ((60,), (60, 1), (3600, 60, 1))[len(parts) - 1]
    total = int(match['days'] or 0)*86400 + sum(n*unit for n, unit in zip(parts, units, strict=False))
    if not total:
        raise BadInput(f'{what}: {time} is no time to train in')
    return total


def command(words, width=112):
    """Words of a command, already quoted, as lines that end in a backslash where it goes on."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 1 > width:
            lines[-1] += ' \\'
            lines.append('    ' + word)
        else:
            lines[-1] += ' ' + word
    return '\n'.join(lines)


def quoted(words):
    return [shlex.quote(word) for word in words]
