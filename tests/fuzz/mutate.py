"""How the bytes of a file are spoilt.  Everything is drawn from one generator, so a case can be repeated."""

import json
import re

import numpy as np

NUMBERS = (b'0', b'-1', b'1', b'2147483647', b'-2147483648', b'4294967296', b'9223372036854775807',
           b'-9223372036854775809',
           b'1' + b'0'*30, b'9'*5000, b'nan', b'NaN', b'inf', b'-inf', b'Infinity', b'-Infinity', b'1e308', b'-1e309',
           b'1e-320', b'0x10', b'1_000', b'3.5', b'-0', b'+7', b'1e5', '\u0663'.encode(), b'')
WORDS = (b'', b'|', b'touch pwned |', b'| touch pwned', b'$(touch pwned)', b'`touch pwned`', b'; touch pwned',
         b'/dev/zero',
         b'/dev/stdin', b'/etc/passwd', b'../../../../etc/passwd', b'/proc/self/mem', b'-', b'.', b'..', b'~', b'\0',
         b'a'*100_000, '\ud7ff\U0010ffff\u202e\u0301'.encode(), b'\xff\xfe', b'\xed\xa0\x80', b'\x1b[31m\x1b]0;x\x07',
         '\u2028\u0085\u00a0'.encode(), b'%s%n', b'{0}', b'__class__', b'<eps>', b'#0', b'<s>', b'</s>', b'SIL', b'[',
         b']',
         b'[[', b'true', b'null', b'"', b"'", b'\\', b'\xef\xbb\xbf', b'0:18446744073709551615', b'[0:99999999999]')
VALUES = (None, True, False, 0, 1, -1, 2**31, 2**63, -2**63, 2**200, 1.5, 1e308, 1e-320, float('nan'), float('inf'),
          -float('inf'), '', 'x', 'x'*100_000, '\ud800', '\0', '../../etc/passwd', 'touch pwned |', '\U0010ffff', [],
          {},
          [[]], [0], ['x'], [None], {'x': 1}, {'': None}, [1e308]*3, '9'*5000)
EXTREMES = (0, 1, -1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, -0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffffffff,
            -0x8000000000000000, 0x3fffffff, 0x40000000, 1 << 40)
FLOATS = float('nan'), float('inf'), -float('inf'), 3e38, -3e38, 1e-45, -0.0, 1e300
TOKEN = re.compile(rb'[^\s,:=\[\]{}"]+')
DEEP = 20_000  # brackets: more than Python may recurse


def pick(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def place(rng, content, width=1):
    """Where `width` bytes of `content` begin; more often near its beginning, where headers are, or its end."""
    room = max(len(content) - width, 0) + 1
    near = int(rng.integers(min(room, 128)))
    return pick(rng, (int(rng.integers(room)), near, int(rng.integers(room)), max(room - 1 - near, 0)))


def over(content, at, new):
    return content[:at] + new + content[at + len(new):]


def flip(rng, content):
    found = bytearray(content)
    for _ in range(int(rng.integers(1, 9)) if found else 0):
        found[place(rng, content)] ^= 1 << int(rng.integers(8))
    return bytes(found)


def noise(rng, content):
    n = int(rng.integers(1, 65))
    return over(content, place(rng, content, n), rng.bytes(n))[:len(content)]


def truncate(rng, content):
    return content[:place(rng, content)]


def behead(rng, content):
    return content[place(rng, content):]


def insert(rng, content):
    at = place(rng, content)
    return content[:at] + pick(rng, (rng.bytes(int(rng.integers(1, 200))), b'\0'*4096, pick(rng, WORDS))) + content[at:]


def span(rng, content):
    a = place(rng, content)
    return a, min(a + int(rng.integers(1, 2 + len(content)//4)), len(content))


def remove(rng, content):
    a, b = span(rng, content)
    return content[:a] + content[b:]


def swap(rng, content):
    a, b = span(rng, content)
    c = b + place(rng, content[b:])
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def repeat(rng, content):
    a, b = span(rng, content)
    return content[:b] + content[a:b]*int(rng.integers(1, 20)) + content[b:]


def zero(rng, content):
    a, b = span(rng, content)
    return content[:a] + b'\0'*(b - a) + content[b:]


def extreme(rng, content):
    """An integer of 1 to 8 bytes becomes another, as a size in a header may be."""
    width, order = pick(rng, (1, 2, 4, 8)), pick(rng, ('little', 'big'))
    new = (pick(rng, EXTREMES) % (1 << 8*width)).to_bytes(width, order)
    return over(content, place(rng, content, width), new)[:max(len(content), width)]


def strange(rng, content):
    """A float becomes one with which few reckon."""
    with np.errstate(over='ignore'):
        new = np.array(pick(rng, FLOATS)).astype(pick(rng, ('<f4', '<f8'))).tobytes()
    return over(content, place(rng, content, len(new)), new)


def nothing(rng, content):
    return pick(rng, (b'', b'\n', b'\0', b' ', b'\xef\xbb\xbf', b'\n'*1000, b'\r\n'))


BYTES = [flip, flip, flip, noise, truncate, truncate, behead, insert, remove, swap, repeat, zero, extreme, extreme,
         extreme,
         strange, nothing]


def lines(rng, content):
    """Lines are lost, doubled, moved, joined."""
    rows = content.split(b'\n')
    a, b = int(rng.integers(len(rows))), int(rng.integers(len(rows)))
    found = pick(rng, (rows[:a] + rows[a + 1:], rows[:a] + [rows[b]] + rows[a:], rows[:a] + [rows[a]*2] + rows[a + 1:],
                       rows[::-1], rows[:a] + rows[b:], rows + rows, rows[:a] + [pick(rng, WORDS)] + rows[a:]))
    return pick(rng, (b'\n', b'\n', b'\n', b'\r\n', b'\r', b' ')).join(found)


def token(rng, content):
    """A number becomes another, any other word one that means something elsewhere."""
    found = list(TOKEN.finditer(content))
    if not found:
        return content + pick(rng, WORDS)
    m = pick(rng, found)
    new = pick(rng, NUMBERS if m[0][-1:].isdigit() and rng.random() < 0.8 else WORDS + NUMBERS)
    return content[:m.start()] + new + content[m.end():]


def exchange(rng, content):
    """Two words change places."""
    found = list(TOKEN.finditer(content))
    if len(found) < 2:
        return content
    m, n = sorted((pick(rng, found), pick(rng, found)), key=lambda m: m.start())
    return content[:m.start()] + n[0] + content[m.end():n.start()] + m[0] + content[n.end():] if m is not n else content


TEXT = [lines, lines, token, token, token, token, exchange]


def within(rng, value):
    """`value`, of JSON, with one thing in it changed."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        k = pick(rng, keys)
        found = value.copy()
        if rng.random() < 0.12:
            del found[k]
        else:
            found[k] = within(rng, value[k])
        return found
    if isinstance(value, str) and value[:1] == '{' and rng.random() < 0.8:  # JSON within JSON
        return json.dumps(within(rng, json.loads(value)))
    if isinstance(value, int | float) and rng.random() < 0.3:
        return value + pick(rng, (1, -1, 0.5, 10**6))
    return pick(rng, VALUES)


def values(rng, content):
    """A value of a JSON file becomes another; of a file with a JSON text per line that of a line."""
    rows = content.split(b'\n')
    at = int(rng.integers(len(rows)))
    for k in [None, at]:
        try:
            text = json.dumps(within(rng, json.loads(content if k is None else rows[k]))).encode()
            return text if k is None else b'\n'.join(rows[:k] + [text] + rows[k + 1:])
        except (ValueError, RecursionError):
            pass
    return token(rng, content)


def deep(rng, content):
    return pick(rng, (b'['*DEEP, b'{"a":'*DEEP, b'[' + b'[],'*DEEP + b'0]', b'{"format":' + b'['*DEEP))


JSON = [*[values]*12, *[token]*3, lines, deep]


def spoilt(rng, content, special=()):
    """`content` spoilt once to three times, by what its kind suggests, and by `special` changes."""
    kinds = [BYTES]
    if content[:1] == b'{':
        kinds = [JSON, JSON, JSON, BYTES]
    elif is_text(content):
        kinds = [TEXT, TEXT, TEXT, BYTES]
    kinds = kinds + [list(special)]*len(kinds) if special else kinds
    chosen = pick(rng, kinds)
    for _ in range(int(rng.integers(1, 4))):
        content = pick(rng, chosen)(rng, content)
    return content


def is_text(content):
    try:
        return '\0' not in content[:1000].decode('ascii')
    except UnicodeDecodeError:
        return False
