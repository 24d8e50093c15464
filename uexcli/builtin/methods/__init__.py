"""How the noise is found."""
