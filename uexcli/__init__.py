"""uex: make image data unlearnable, and find out honestly whether it is.

    import uexcli

    noise = uexcli.fit("photos", eps=8 / 255)
    uexcli.apply(noise, "photos", "release")
    print(uexcli.evaluate("photos", "release").worst)

`fit`, `apply`, `evaluate`, `verify`, `load_noise`, `Noise`, `Protected` and `UexError` are loaded when they are used.
"""

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Noise", "Protected", "UexError", "apply", "evaluate", "fit", "load_noise", "verify"]

if TYPE_CHECKING:
    from uexcli.errors import UexError
    from uexcli.python.functions import apply, evaluate, fit, load_noise, verify
    from uexcli.python.noise import Noise, Protected

# Libraries that report to their makers read these when they are imported; this comes before any import of them, whoever
# makes it, and holds for child processes. What the environment said before does not matter: uex sends nothing.
SILENCED = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
os.environ.update(SILENCED)

PLACES = {"UexError": "errors", "Noise": "python.noise", "Protected": "python.noise"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'uexcli' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"uexcli.{PLACES.get(name, 'python.functions')}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
