"""Speed of normcore against whichever peers are installed: ``python -m bench`` from the root of the repository."""
