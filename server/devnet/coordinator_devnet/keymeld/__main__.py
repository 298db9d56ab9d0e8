"""`python -m coordinator_devnet.keymeld`."""

from .cli import main

main()
