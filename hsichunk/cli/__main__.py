"""`python -m hsichunk.cli`."""

from hsichunk.cli import main

main()
