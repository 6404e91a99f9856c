"""The error every message meant for the user derives from."""


class CibaError(RuntimeError):
    """Something the user can mend; the command-line tools print its message without a trace."""
