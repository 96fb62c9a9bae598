"""``python -m normcore`` is the command ``normcore``."""

import sys

# The guard matters: a spawned worker process imports this file again.
if __name__ == "__main__":
    from normcore.cli import main

    sys.exit(main())
