"""What an image file holds beside its pixels: what may stay, and what must not get into a release."""
