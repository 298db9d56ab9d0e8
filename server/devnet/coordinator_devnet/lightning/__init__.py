"""Devnet Lightning."""
