"""One file a subcommand: options in, one task call, what to print out.

``output`` is how all of them speak (stdout is data, stderr is words); ``options`` reads sizes and makes the
typer apps. A command module imports typer and the standard library at its top, and the rest inside the
command, so that ``slyther --help`` stays fast. What may not live here: anything that computes. Nothing
imports commands but ``app``.
"""
