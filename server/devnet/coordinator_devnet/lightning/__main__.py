"""`python -m coordinator_devnet.lightning`."""

from .cli import main

main()
