"""The exceptions that mean "the user can fix this", and any exception in one line."""


class UserError(Exception):
    """A failure the user can cause and mend; its message is one line that says how.

    The command line prints the message on stderr and exits with code 2, without a traceback.
    """


class ArgumentError(UserError):
    """One argument is not what it may be: "learning_rate must be a positive number, got nan".

    The command line names the option instead: "--learning-rate must be …".

    Attributes:
      name: the argument's, a parameter of a function or a field of a config.
      complaint: what is wrong with it, the rest of the message.
    """

    def __init__(self, name: str, complaint: str):
        super().__init__(f"{name} {complaint}")
        self.name = name
        self.complaint = complaint


def one_line(error: BaseException) -> str:
    """An exception as `Type: message`, the message's first line and at most 200 characters of it."""
    try:
        text = (str(error).strip().splitlines() or [""])[0][:200]
    except Exception:  # of a class whose message is one itself
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
