"""Which of many like launches `make test` runs; `make test-all` runs all of them."""

import pytest


def few(cases, *kept):
    """`cases` of a parametrize; all but those at the places `kept` are slow."""
    return [pytest.param(*(case if isinstance(case, tuple) else [case]), marks=[pytest.mark.slow]*(k not in kept))
            for k, case in enumerate(cases)]


def few_groups(cases, *kept):
    """As `few`, where a case is one argument though it may be a tuple."""
    return few([(case,) for case in cases], *kept)
