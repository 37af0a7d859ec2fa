"""`python -m hsichunk`: the command line."""

from hsichunk.cli.main import main

if __name__ == "__main__":
    main()
