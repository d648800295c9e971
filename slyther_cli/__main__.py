"""``python -m slyther_cli``."""

import sys

from slyther_cli.app import main

if __name__ == "__main__":
    sys.exit(main())
