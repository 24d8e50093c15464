"""A fit: the problem a method is handed, its noise bank, and the projected steps."""
