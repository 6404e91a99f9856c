"""Write config files in a readable form: the fields that differ from a base, as Python source."""

from __future__ import annotations

import keyword
from typing import Any

_WIDTH = 100
_INDENT = 4


class Source(str):
    """Python source that is written verbatim: a name, or a reference to a base config."""


def differences(base: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that a config must set if it inherits from another.

    Args:
        base: The config it inherits from.
        wanted: The config that must result.

    Returns:
        The fields that differ. A dict that lost fields or changed its ``type`` is written in full,
        with ``_delete_=True``.
    """
    found: dict[str, Any] = {}
    for key, value in wanted.items():
        if key not in base:
            found[key] = value
        elif isinstance(value, dict) and isinstance(base[key], dict):
            replaced = base[key].get('type') != value.get('type') or set(base[key]) - set(value)
            change = dict(_delete_=True, **value) if replaced else differences(base[key], value)
            if change:
                found[key] = change
        elif isinstance(value, Source) or value != base[key]:
            # mmengine replaces lists as a whole.
            found[key] = dict(_delete_=True, **value) if isinstance(value, dict) else value
    return found


def write_fields(fields: dict[str, Any]) -> str:
    """Return the assignments of a config file.

    Args:
        fields: Name to value.

    Returns:
        Python source, formatted to 100 columns.
    """
    return ''.join(
        f'{name} = {_source(value, 0, len(name) + 3)}\n' for name, value in fields.items()
    )


def _source(value: Any, indent: int, used: int) -> str:
    """Return the source of a value on a line of which ``used`` columns are taken."""
    line = _one_line(value)
    if used + len(line) <= _WIDTH or not isinstance(value, (dict, list, tuple)) or not value:
        return line
    inner = indent + _INDENT
    margin = ' ' * inner
    opening, closing, items = _parts(value)
    # One more column for the comma after the value.
    body = ''.join(
        f'{margin}{label}{_source(item, inner, inner + len(label) + 1)},\n' for label, item in items
    )
    return f'{opening}\n{body}{" " * indent}{closing}'


def _one_line(value: Any) -> str:
    if isinstance(value, Source):
        return str(value)
    if isinstance(value, (dict, list, tuple)):
        opening, closing, items = _parts(value)
        inside = ', '.join(f'{label}{_one_line(item)}' for label, item in items)
        comma = ',' if isinstance(value, tuple) and len(value) == 1 else ''
        return f'{opening}{inside}{comma}{closing}'
    return repr(value)


def _parts(value: Any) -> tuple[str, str, list[tuple[str, Any]]]:
    """Return the brackets of a container, and its items, each with the text before it."""
    if isinstance(value, dict):
        if all(_is_name(key) for key in value):
            return 'dict(', ')', [(f'{key}=', item) for key, item in value.items()]
        return '{', '}', [(f'{key!r}: ', item) for key, item in value.items()]
    opening, closing = ('(', ')') if isinstance(value, tuple) else ('[', ']')
    return opening, closing, [('', item) for item in value]


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)
