"""Protecting one photo: what makes its noise, and adding it. Shared by apply, preview, export and merge."""
