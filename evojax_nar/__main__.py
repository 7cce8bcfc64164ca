"""`python -m evojax_nar` is the command line."""

import sys

from evojax_nar.cli import main

sys.exit(main())
