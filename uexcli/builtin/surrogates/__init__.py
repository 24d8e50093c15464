"""The nets the noise is fitted against."""
