"""`python -m hpcasr` is `hpcasr`."""

import sys

from hpcasr.cli import main

sys.exit(main())
