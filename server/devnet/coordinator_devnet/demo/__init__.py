"""`demo`: plays one competition through public interfaces only, and counts the sats before and after."""

from .cli import add_arguments, serve

__all__ = ["add_arguments", "serve"]
