"""Who tries to learn from the images."""
