"""The second decoder, which checks Pillow's reading of a file; most formats follow their specification here."""
