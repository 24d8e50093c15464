"""Which images share a noise."""
