"""Pure tensors: no files, no environment, no printing, and no random number without a generator."""
