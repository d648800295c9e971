"""One file a subcommand: options in, one call, what to print out.

``output`` is how all of them speak (stdout is data, stderr is words) and ``events`` says what that is with
--json; ``options`` has the options that several share and makes the typer apps; ``settings`` fills options
from the environment and a file; ``completing`` offers values to shells. A command module imports typer and
the standard library at its top, and the rest inside the command, so that ``slyther --help`` stays fast. What
may not live here: anything that computes. Nothing imports commands but ``app``.
"""
