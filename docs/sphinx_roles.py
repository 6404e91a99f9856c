"""Griffe extension of the site: Sphinx roles in docstrings become cross-references."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from griffe import Extension, Module, NameResolutionError, Object

_ROLE = re.compile(r':(?:attr|class|data|exc|func|meth|mod):`(~?)\.*([\w.]+)`')


class SphinxRoles(Extension):
    """Rewrite the roles of a package once all of its names are known."""

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """Rewrite every docstring of a loaded package."""
        _rewrite(pkg)


def _rewrite(scope: Object) -> None:
    if scope.docstring:
        scope.docstring.value = _ROLE.sub(partial(_link, scope), scope.docstring.value)
    for member in scope.members.values():
        if not member.is_alias:
            _rewrite(member)


def _link(scope: Object, role: re.Match) -> str:
    shortened, name = role.groups()
    text = name.rpartition('.')[2] if shortened else name
    try:
        path = scope.resolve(name)
    except NameResolutionError:
        path = name
    # An optional reference whose target has no page stays plain text.
    return f'<autoref optional identifier="{path}"><code>{text}</code></autoref>'
