"""Quote shell commands for messages."""

from __future__ import annotations

import shlex


def shell_command(*words: object) -> str:
    """Return a shell command, with quotes where needed.

    Args:
        *words: The program and its arguments.

    Returns:
        The command.
    """
    return shlex.join(str(word) for word in words)


def training_command(config: object) -> str:
    """Return the command that trains a config on eight GPUs, as in the paper.

    Args:
        config: The config file.

    Returns:
        The command.
    """
    return shell_command('bash', 'tools/dist_train.sh', config, 8)
