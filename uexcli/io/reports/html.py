"""Text in a page that a browser shows."""

from __future__ import annotations

import html

from uexcli.wording import visible


def escape(text: str) -> str:
    """Make text stand as it is in HTML, in attributes too: nothing of it is markup, hidden, or turns its direction."""
    return html.escape(visible(text))
