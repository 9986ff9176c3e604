"""The one exception that means "the user can fix this", and any exception in one line."""


class UserError(Exception):
    """A failure the user can cause and mend; its message is one line that says how.

    The command line prints the message on stderr and exits with code 2, without a traceback.
    """


def one_line(error: BaseException) -> str:
    """An exception as `Type: message`, the message's first line and at most 200 characters of it."""
    text = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
