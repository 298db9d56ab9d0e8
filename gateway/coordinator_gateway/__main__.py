"""`python -m coordinator_gateway`."""

from coordinator_gateway.cli import main

main()
