"""The errors a user may meet, each with the exit code that it leads to.

Everything that can go wrong in an expected way is raised as one of these, with a message of one
line that says what is wrong and what to do. The command line prints the line and nothing else; any
other exception is a bug and exits with 1.
"""

LONGEST = 800  # characters of a message


def escaped(text: str) -> str:
    """``text`` with everything escaped that a terminal would not print but obey: what comes from files and
    from their names is not ours."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable(text: str) -> str:
    """The same of words that may come in several lines; one line."""
    return escaped(" ".join(text.splitlines()))


class SlytherError(Exception):
    """Base of all expected errors. ``exit_code`` is what the process ends with. As text it is one printable
    line, whatever file or name it quotes."""

    exit_code = 1

    def __str__(self) -> str:
        text = printable(super().__str__())
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


class UsageError(SlytherError):
    """The command was asked for something that it cannot mean."""

    exit_code = 2


class InputError(SlytherError):
    """One input file cannot be read or used; the other files of the batch go on."""

    exit_code = 3


class OutputError(SlytherError):
    """A result cannot be written: no permission, no space, a file in the way."""

    exit_code = 3


class ModelError(SlytherError):
    """A model is unknown, damaged, of another architecture, or cannot be downloaded."""

    exit_code = 5


class DeviceError(SlytherError):
    """The device is missing or has not enough memory."""

    exit_code = 6
