"""`python -m coordinator_devnet`."""

import sys

from .cli import main

sys.exit(main())
