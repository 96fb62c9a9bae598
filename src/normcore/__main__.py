"""``python -m normcore`` is the command ``normcore``."""

import sys

# The guard matters: a spawned worker process imports this file again.
if __name__ == "__main__":
    try:
        from normcore.cli import main
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(main())
