"""An evaluation: one training run and its scores, and the statistics of what several find."""
