"""What uex brings itself: one file a thing, found by scanning, registered through the same hooks as any plugin."""
