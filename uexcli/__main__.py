"""`python -m uexcli` and the `uex` console script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from uexcli.cli import interrupt

    interrupt.at_once()
    from uexcli.cli.app import run

    sys.exit(run())


if __name__ == "__main__":
    main()
