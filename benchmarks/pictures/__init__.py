"""Pictures of our own making, in every format, depth and layout that files come in, with what they show."""
