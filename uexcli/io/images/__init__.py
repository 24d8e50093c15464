"""Image files: decoding, encoding, and what their headers say."""
