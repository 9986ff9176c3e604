"""The one exception that means "the user can fix this"."""


class UserError(Exception):
    """A failure the user can cause and mend; its message is one line that says how.

    The command line prints the message on stderr and exits with code 2, without a traceback.
    """
