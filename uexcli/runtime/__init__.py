"""The only layer that asks the machine about devices and precision."""
