"""`python -m predgen`: the command line, as launchers of several processes start it."""

from predgen.cli import main

if __name__ == "__main__":
    main()
