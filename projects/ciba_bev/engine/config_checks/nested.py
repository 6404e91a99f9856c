"""Search nested configs."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

from mmengine.registry import Registry


def dicts_with(tree: Any, key: str, field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find the dicts with a key in a nested config.

    Args:
        tree: A config or a part of one.
        key: The key.
        field: Dotted name of the tree.

    Yields:
        Dotted name and dict, for every dict with the key.
    """
    if isinstance(tree, dict):
        if key in tree:
            yield field, tree
        for name, branch in tree.items():
            yield from dicts_with(branch, key, f'{field}.{name}')
    elif isinstance(tree, (list, tuple)):
        for index, branch in enumerate(tree):
            yield from dicts_with(branch, key, f'{field}[{index}]')


def find_dataset(loader: Any) -> dict[str, Any] | None:
    """Return the data set config of a data loader, inside any wrappers.

    Args:
        loader: Data loader config, or None.

    Returns:
        The first dict with a pipeline; None if there is none.
    """
    return next((part for _, part in dicts_with(loader, 'pipeline', '')), None)


def first_of(part: dict[str, Any], keys: Sequence[str]) -> Any:
    """Return the first value of a dict, in the order of the keys, that is not None.

    Args:
        part: The dict.
        keys: The keys.

    Returns:
        The value; None if there is none.
    """
    return next((part[key] for key in keys if part.get(key) is not None), None)


def registered_class(registry: Registry, kind: str | type | None) -> Any:
    """Return the class for the ``type`` of a config, in the default scope.

    Args:
        registry: The registry of the name.
        kind: The name, or the class itself.

    Returns:
        The class or function; None if the name is not registered.
    """
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(None) as scoped:
        return scoped.get(kind)
