"""The errors a user may meet, each with the exit code that it leads to.

Everything that can go wrong in an expected way is raised as one of these, with a message of one
line that says what is wrong and what to do. The command line prints the line and nothing else; any
other exception is a bug and exits with 1.
"""


class SlytherError(Exception):
    """Base of all expected errors. ``exit_code`` is what the process ends with."""

    exit_code = 1


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
