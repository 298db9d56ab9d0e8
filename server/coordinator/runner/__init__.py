"""Drives competitions from state to state: looks at the stored state and the outside world, does the one next
thing.

Level-triggered and idempotent: a step that is repeated after a crash finds what was done and goes on.
"""

from coordinator.runner.runner import Runner

__all__ = ["Runner"]
