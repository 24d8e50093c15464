"""uex: make image data unlearnable, and find out honestly whether it is."""

import os

__version__ = "0.1.0"

# Libraries that report to their makers read these when they are imported; this comes before any import of them, whoever
# makes it, and holds for child processes. What the environment said before does not matter: uex sends nothing.
SILENCED = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
os.environ.update(SILENCED)
