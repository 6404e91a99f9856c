"""Commands that messages tell the user to type."""

from __future__ import annotations

import shlex


def shell_command(*words: object) -> str:
    """Return a command as a shell takes it: words with spaces or special characters are quoted.

    Args:
        words: The program and its arguments.
    """
    return shlex.join(str(word) for word in words)


def training_command(config: object) -> str:
    """Return the command that trains a config on eight GPUs, as the paper did.

    Args:
        config: The config file.
    """
    return shell_command('bash', 'tools/dist_train.sh', config, 8)
