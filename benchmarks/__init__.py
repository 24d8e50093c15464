"""How fast a fit is, and what it costs; see RESULTS.md for what was measured."""
