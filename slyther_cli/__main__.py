"""``slyther``, and ``python -m slyther_cli``. Ctrl-C ends it in one word while modules still load, too."""

import sys


def main() -> int:
    """The exit code of the process."""
    try:
        from slyther_cli.app import main
    except KeyboardInterrupt:
        print("slyther: stopped", file=sys.stderr)
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(main())
