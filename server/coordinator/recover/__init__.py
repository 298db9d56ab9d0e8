"""`coordinator-recover`: a winner takes its prize from the chain, without the coordinator.

`material` reads the public contract and the player's secrets, `claim` says what the player won and builds its
transactions (both without network), `survey` finds what the chain has of them, `cli` is the command.
See docs/recovery.md.
"""
