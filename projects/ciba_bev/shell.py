"""Commands that messages tell the user to type."""

from __future__ import annotations

import shlex


def shell_command(*words: object) -> str:
    """Return a command as a shell takes it: words with spaces or special characters are quoted.

    Args:
        words: The program and its arguments.
    """
    return shlex.join(str(word) for word in words)
