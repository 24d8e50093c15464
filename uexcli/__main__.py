"""`python -m uexcli` and the `uex` console script."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from uexcli.cli import interrupt

    interrupt.at_once()
    if sys.getfilesystemencoding() != "utf-8":
        _begin_anew()
    from uexcli.cli.app import run

    sys.exit(run())


def _begin_anew() -> None:
    """Start over with names of files in UTF-8, as noise files and releases have them; the screen stays as it is."""
    if not os.environ.get("PYTHONIOENCODING") and sys.stdout is not None:
        os.environ["PYTHONIOENCODING"] = sys.stdout.encoding
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


if __name__ == "__main__":
    main()
