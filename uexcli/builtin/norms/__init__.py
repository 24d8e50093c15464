"""What small means."""
