"""Noise files and the checkpoints of a fit, as safetensors, which may be bigger than memory."""
