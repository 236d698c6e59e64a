"""`python -m aiecs`: the command line."""

import sys

from aiecs.cli.entry import main

sys.exit(main())
