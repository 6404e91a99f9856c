"""Writing configs as a person would: what differs from a base, as Python source."""

from __future__ import annotations

import keyword
from typing import Any

_WIDTH = 100
_INDENT = 4


class Source(str):
    """A value that is written as it stands: a name, or a reference to a base config."""


def differences(base: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What a config that inherits from another must say.

    Args:
        base: The config it inherits from.
        wanted: What it shall be.

    Returns:
        The fields that differ. Where a dict has lost fields, or another type is built from it, the
        whole of it, with ``_delete_=True``.
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
            # Of a list, too, nothing is merged.
            found[key] = dict(_delete_=True, **value) if isinstance(value, dict) else value
    return found


def write_fields(fields: dict[str, Any]) -> str:
    """Assignments of a config file.

    Args:
        fields: Name to value.

    Returns:
        Python source, formatted to 100 columns.
    """
    return ''.join(
        f'{name} = {_source(value, 0, len(name) + 3)}\n' for name, value in fields.items()
    )


def _source(value: Any, indent: int, used: int) -> str:
    """Source of a value in a line of which some columns are used already."""
    line = _one_line(value)
    if used + len(line) <= _WIDTH or not isinstance(value, (dict, list, tuple)) or not value:
        return line
    inner = indent + _INDENT
    margin = ' ' * inner
    opening, closing, items = _parts(value)
    # The comma behind a value belongs to its line.
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
    """Opening and closing bracket of a container, and its items with what precedes each."""
    if isinstance(value, dict):
        if all(_is_name(key) for key in value):
            return 'dict(', ')', [(f'{key}=', item) for key, item in value.items()]
        return '{', '}', [(f'{key!r}: ', item) for key, item in value.items()]
    opening, closing = ('(', ')') if isinstance(value, tuple) else ('[', ']')
    return opening, closing, [('', item) for item in value]


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)
