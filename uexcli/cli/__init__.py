"""Signatures and rendering: the only layer that prints and exits."""
