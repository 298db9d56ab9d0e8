"""The ticketed DLC: keys, scripts, transactions and signatures of a competition's contract. Pure, no I/O.

Wire- and byte-compatible with the Rust crate `dlctix` 0.0.7. Start at `coordinator.contract.parameters`
(what the parties agree on) and `coordinator.contract.dlc` (what follows from it).
"""
