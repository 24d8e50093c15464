"""uex: make image data unlearnable, and find out honestly whether it is."""

__version__ = "0.1.0"
