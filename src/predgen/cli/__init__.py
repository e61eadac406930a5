"""The command line: fit, predict, evaluate, compare, demo.

Each command imports what it needs when it runs, so that `--help` answers at once.
"""

import sys

INTERRUPTED = 130


def main() -> None:
    """Runs the command line."""
    try:
        from predgen.cli.app import app

        app()
    except KeyboardInterrupt:  # while Python still reads the code
        sys.exit(INTERRUPTED)
