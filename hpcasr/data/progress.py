"""How long work says how far it is: a function from items to the same items, which commands replace by a bar."""


def silent(items, total=None):
    """Show nothing."""
    return items
