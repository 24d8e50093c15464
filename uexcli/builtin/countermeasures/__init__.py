"""What an attacker does to the images first."""
