"""Norm that bounds the noise."""
