"""The release folder: names, checksums, public facts, and what keeps an interrupted run from starting over."""
