"""The network: cut off where nobody asked for a download."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

OFFLINE = "HF_HUB_OFFLINE"  # what the hub's library reads when it is imported
_changing = threading.RLock()


@contextlib.contextmanager
def cut() -> Iterator[None]:
    """Let no name be looked up and no connection be made in this process: weights that are here are still found.

    Libraries meet it as an `OSError`, as they do where there is no network. Others that want to cut it wait.
    """
    with _changing:
        hub: Any = sys.modules.get("huggingface_hub.constants")
        before, known = os.environ.get(OFFLINE), getattr(hub, OFFLINE, None)
        look_up, connect = socket.getaddrinfo, socket.create_connection
        os.environ[OFFLINE] = "1"
        if hub is not None:
            setattr(hub, OFFLINE, True)
        socket.getaddrinfo = socket.create_connection = _refuse
        try:
            yield
        finally:
            socket.getaddrinfo, socket.create_connection = look_up, connect
            hub = sys.modules.get("huggingface_hub.constants")
            if hub is not None:  # also where it was imported meanwhile
                setattr(hub, OFFLINE, bool(known))
            if before is None:
                os.environ.pop(OFFLINE, None)
            else:
                os.environ[OFFLINE] = before


def _refuse(*_: Any, **__: Any) -> Any:
    raise OSError("no download was asked for")
