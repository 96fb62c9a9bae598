"""``python -m normcore`` is the command ``normcore``."""

import sys

from normcore.cli import main

# The guard matters: a spawned worker process imports this file again.
if __name__ == "__main__":
    sys.exit(main())
