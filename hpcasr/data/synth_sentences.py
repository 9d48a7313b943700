"""What the speakers of the demo corpus say: names spelled, digits, commands, dates and short sentences, from a grammar.

Words are in lower case, letters that are spelled in upper case, so that the letter A and the word a are two words.
"""

import re
import zlib

RULES = {
    'sentence': ['<digits>'] + ['<spelling>']*2 + ['<command>']*4 + ['<date>']*2 + ['<statement>']*5 + ['<question>']*3,
    'digits': ['<digit> <digit> <digit> <digit>', '<digit> <digit> <digit> <digit> <digit> <digit> <digit>',
               'my number is <digit> <digit> <digit> <digit> <digit> <digit>', 'the code is <digit> <digit> <digit> '
               '<digit> <digit>', 'room <digit> <digit> <digit> on floor <one to nine>'],
    'spelling': ['<letters>', 'my name is <letters>', '<name> is spelled <letters>', 'please write <letters>'],
    'letters': ['<letter> <letter> <letter>', '<letter> <letter> <letter> <letter>',
                '<letter> <letter> <letter> <letter> <letter>'],
    'command': ['turn <on or off> the <device> in the <room>', '<please> turn <on or off> the <adjective> <device>',
                'set the <device> to <number> percent', 'set a timer for <number> minutes',
                'call <name> at <place> <when>', '<please> call <name> and <name>', 'play <music> in the <room>',
                'wake me up at <hour> <minutes>', 'open the <opening> in the <room>', 'close the <adjective> <opening>',
                'send <name> a <message> about the <thing>', 'add <number> <food> to the list',
                'remind me to <do> <when>', '<please> show me the way to the <location>'],
    'date': ['today is <weekday> the <ordinal> of <month>', '<event> is on <weekday> at <hour> <minutes>',
             '<name> was born on the <ordinal> of <month>', 'we meet <name> on <weekday> <daytime>',
             'it is <minutes> past <hour>', 'from <month> to <month> the <location> is closed'],
    'statement': ['<someone> <sees> <something>', '<someone> <sees> <something> <whereabouts>',
                  '<someone> <goes> <whereabouts> <when>', '<something> is <whereabouts>',
                  '<something> and <something> are <adjective>', '<someone> and <someone> want to <do>',
                  '<when> <someone> <sees> <something>', 'there is <a thing> <whereabouts>',
                  '<someone> gave <name> <a thing>', 'i think that <something> is very <adjective>'],
    'question': ['where is <something>', 'did <someone> <do> <when>', 'who <sees> <something>',
                 'is <something> <whereabouts>', 'can you <do> with <name>', 'how many <food> do you need <when>',
                 'what is <whereabouts>', 'do you know <name> from the <location>'],
    'someone': ['<name>', '<name>', 'my <person>', 'the <person>', 'the <adjective> <person>'],
    'something': ['the <thing>', 'the <adjective> <thing>', 'my <thing>', 'the <animal>', 'your <adjective> <animal>'],
    'a thing': ['a <thing>', 'a <adjective> <thing>', 'a <animal>'],
    'whereabouts': ['<beside> the <location>', '<beside> the <location>', 'in the <room>', '<beside> my <thing>'],
    'number': ['<teen>', '<tens>', '<tens> <one to nine>', '<one to nine>'],
    'ordinal': ['first', 'second', 'third', 'fourth', 'fifth', 'sixth', 'seventh', 'eighth', 'ninth', 'tenth',
                'twelfth', 'twentieth', 'thirtieth', 'twenty first', 'twenty third', 'thirty first'],
    'minutes': ['fifteen', 'thirty', 'forty five', 'twenty', 'ten', 'oh five'],
}
CLASSES = {
    'digit': 'zero one two three four five six seven eight nine oh',
    'one to nine': 'one two three four five six seven eight nine',
    'teen': 'ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen',
    'tens': 'twenty thirty forty fifty sixty seventy eighty ninety',
    'hour': 'one two three four five six seven eight nine ten eleven twelve',
    'letter': 'A B C D E F G H I J K L M N O P Q R S T U V W X Y Z',
    'on or off': 'on off', 'please': 'please now quickly',
    'device': 'light lamp heater radio television fan oven camera printer',
    'room': 'kitchen bedroom bathroom office hall garage attic basement',
    'opening': 'door window gate curtain cupboard',
    'music': 'jazz piano drums rock songs news',
    'message': 'letter message picture note present',
    'place': 'home work school',
    'when': 'today tomorrow tonight later soon again yesterday',
    'daytime': 'morning evening afternoon',
    'weekday': 'monday tuesday wednesday thursday friday saturday sunday',
    'month': 'january february march april may june july august september october november december',
    'event': 'lunch dinner breakfast christmas football',
    'name': 'anna peter maria david susan robert laura simon emma oliver julia martin helen thomas clara victor nina '
            'philip sarah george alice henry lucy daniel rosa walter ingrid felix monica edward',
    'person': 'teacher doctor farmer sister brother uncle neighbour baker lawyer child boy driver singer tourist',
    'animal': 'dog cat horse bird rabbit sheep cow goat monkey snake fish wolf',
    'thing': 'book table chair bottle box key map phone bicycle basket hat coat shoe knife spoon cup plate bag ball '
             'ticket coin toy treasure newspaper mirror pencil hammer blanket candle pillow ladder engine violin',
    'food': 'apples oranges eggs potatoes onions cakes lemons biscuits carrots sandwiches',
    'adjective': 'old new small big red green yellow blue heavy cheap clean dirty broken quiet happy hungry strange '
                 'beautiful soft wooden black white round tiny famous',
    'sees': 'sees finds takes likes wants paints hides drops sells brings forgets watches carries washes',
    'goes': 'walks runs waits sleeps sings works dances jumps sits stays',
    'do': 'swim cook dance read drive sing rest travel sleep work study wait help',
    'beside': 'behind near under over beside by',
    'location': 'station garden market bridge river church library museum hospital forest beach tower street mountain '
                'village island airport theatre bank hotel',
}
HELD_OUT = 4  # one sentence in so many is kept for dev and test


def expand(rng, rule):
    """The words of one sentence of the grammar, [str]."""
    if rule in CLASSES:
        return [pick(rng, CLASSES[rule].split())]
    parts = re.findall(r'<([^>]*)>|(\S+)', pick(rng, RULES[rule]))
    return [word for inner, plain in parts for word in ([plain] if plain else expand(rng, inner))]


def pick(rng, choices):
    return choices[rng.integers(len(choices))]


def held_out(words):
    """Whether a sentence is one that train never has; a function of the sentence alone."""
    return zlib.crc32(' '.join(words).encode()) % HELD_OUT == 0


def sentences(rng, of_train):
    """Sentences [str] without end; those of train and those of dev and test have none in common."""
    while True:
        words = expand(rng, 'sentence')
        if held_out(words) != of_train:
            yield words


def vocabulary():
    """All words that the grammar has, sorted."""
    choices = [re.sub('<[^>]*>', ' ', choice) for rule in RULES.values() for choice in rule]
    return sorted({word for words in (*choices, *CLASSES.values()) for word in words.split()})
