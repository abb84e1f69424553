"""`python -m ccfallback` is the `ccfallback` command."""

from ccfallback.cli import main

if __name__ == "__main__":
    main()
