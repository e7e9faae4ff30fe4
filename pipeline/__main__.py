"""`python -m pipeline` is `umo-dataset`."""
import sys


def main() -> int:
    """Run the command line. Imported late: child processes import this module and need none of it."""
    from pipeline.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
