"""`--window`: in which pieces a network computes an utterance."""

import click

LONGEST = 1_000_000  # frames


def parse_window(context, parameter, text):
    """(frames, context) of 'FRAMES,CONTEXT'; (0, 0) of 'whole'; None: as the experiment says."""
    if text is None or text == 'whole':
        return None if text is None else (0, 0)
    words = text.split(',')
    numbers = [int(word) for word in words if word.isascii() and word.isdecimal() and len(word) < 8]
    if not len(numbers) == len(words) == 2 or not 0 < numbers[0] <= LONGEST or numbers[1] > LONGEST:
        raise click.BadParameter(f'{text}: give FRAMES,CONTEXT such as 64,32, or whole')
    return tuple(numbers)


WINDOW = click.option('--window', callback=parse_window, metavar='FRAMES,CONTEXT|whole',
                      help='Of a network: pieces computed at once.  [default: twice the chunk, and a chunk around it]')
