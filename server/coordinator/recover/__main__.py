"""`python -m coordinator.recover`."""

import sys

from coordinator.recover.cli import main

sys.exit(main())
