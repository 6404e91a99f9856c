"""Write docs/configuration.md: every component a config can name, from its docstring."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import pkgutil
import re
import sys
from pathlib import Path
from typing import Any, Iterator, Sequence

from mmengine.registry import Registry
from torch import nn

import ciba_bev
from ciba_bev.distillation.frozen_model import FrozenModel
from ciba_bev.distillation.taps import FeatureTap
from ciba_bev.files import write_file

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / 'docs' / 'configuration.md'
COMMAND = 'python tools/make_config_reference.py'

# Kinds in the order of the page: name of the registry, heading.
KINDS = (
    ('model', 'Models and their parts'),
    ('dataset', 'Data sets'),
    ('transform', 'Transforms'),
    ('data sampler', 'Samplers'),
    ('function', 'Functions'),
    ('metric', 'Metrics'),
    ('hook', 'Hooks'),
    ('task util', 'Task utilities'),
    ('optim_wrapper', 'Optimizer wrappers'),
    ('optimizer wrapper constructor', 'Optimizer wrapper constructors'),
)
# Given as arguments of others, not by a type of their own; with what their holder fills in.
PARTS = {FeatureTap: (), FrozenModel: ('role',)}

HEAD = f"""# Configuration reference

Written by `{COMMAND}` from the docstrings; change those, not this page.

A config names a component by `type='ciba_bev.NAME'` and gives the arguments below; all that is not
marked *required* may be left out. Shapes are (batch, channels, rows, columns), where \\*grid stands
for any number of grid axes; lengths are in metres.
"""

_SECTION = re.compile(r'^(Args|Returns|Raises|Yields|Attributes|Examples|Note|Source):(.*)$')
_ENTRY = re.compile(r'^    (\\?\*{0,2}\w+)(?: \([^)]*\))?: ?(.*)$')
_ROLE = re.compile(r':\w+:`~?([^`]+)`')
_SEE = re.compile(r'^[Ss]ee :\w+:`~?([\w.]+)`')


def make_page() -> str:
    """The whole page.

    Returns:
        Markdown; the same for the same source files.
    """
    import_everything()
    registries = find_registries()
    unknown = sorted(set(registries) - {kind for kind, _ in KINDS})
    if unknown:
        raise SystemExit(f'{__file__}: add the registries {unknown} to KINDS.')
    kinds = [(kind, heading) for kind, heading in KINDS if registries.get(kind)]
    components = {kind: sorted(registries[kind].items()) for kind, _ in kinds}
    documented = {name: value for items in components.values() for name, value in items}
    documented.update((part.__name__, part) for part in PARTS)
    lines = [HEAD]
    for kind, heading in kinds:
        lines.append(f'- {heading}: ' + ', '.join(_link(name) for name, _ in components[kind]))
    lines.append('- Parts of others: ' + ', '.join(_link(part.__name__) for part in PARTS))
    for kind, heading in kinds:
        lines += ['', f'## {heading}']
        for name, component in components[kind]:
            lines += describe(name, component, documented)
    lines += ['', '## Parts of others', '', 'Given as a dict without `type`.']
    for part, filled_in in PARTS.items():
        lines += describe(part.__name__, part, documented, filled_in)
    return '\n'.join(lines) + '\n'


def import_everything() -> None:
    """Import every module of the package, since a component is registered by that."""
    for module in pkgutil.walk_packages(ciba_bev.__path__, 'ciba_bev.'):
        importlib.import_module(module.name)


def find_registries() -> dict[str, dict[str, Any]]:
    """All registries of the package's scope that hold components.

    Returns:
        The registered classes and functions by name, by name of the registry.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, module in sorted(sys.modules.items()):
        if not name.startswith('ciba_bev'):
            continue
        for value in vars(module).values():
            if isinstance(value, Registry) and value.scope == 'ciba_bev':
                # Tests and plugins may have added components of their own.
                own = {
                    name: component
                    for name, component in value.module_dict.items()
                    if component.__module__.startswith('ciba_bev')
                }
                if own:
                    found[value.name] = own
    return found


def describe(
    name: str, component: Any, documented: dict[str, Any], filled_in: Sequence[str] = ()
) -> list[str]:
    """The section on one component.

    Args:
        name: Its registered name.
        component: The class or function.
        documented: What has a section, by name.
        filled_in: Arguments that a config does not give.

    Returns:
        Lines of Markdown.
    """
    source = Path(inspect.getsourcefile(component))
    link = Path(os.path.relpath(source, PAGE.parent)).as_posix()
    lines = ['', f'### {name}', '']
    lines.append(f'[`{source.relative_to(REPOSITORY / "projects").as_posix()}`]({link})')
    lines += ['', *_render('\n'.join(split_docstring(component)['']), documented).splitlines()]
    if not inspect.isclass(component):
        return lines
    maker = next(base for base in component.__mro__ if '__init__' in vars(base))
    if maker.__module__.startswith('ciba_bev'):
        rows = [*argument_rows(component, documented, filled_in)]
        if rows:
            rows = ['| argument | type | default | meaning |', '|---|---|---|---|', *rows]
        lines += ['', *(rows or ['It takes no arguments.'])]
    elif maker in (object, nn.Module):
        lines += ['', 'It takes no arguments.']
    else:
        # Their names and words differ from release to release.
        package = maker.__module__.split('.')[0]
        lines += ['', f'It takes the arguments of `{maker.__name__}` of {package}.']
    return lines


def argument_rows(
    component: type, documented: dict[str, Any], filled_in: Sequence[str]
) -> Iterator[str]:
    """Table rows for what a class takes.

    Args:
        component: The class.
        documented: What has a section, by name.
        filled_in: Arguments to leave out.

    Yields:
        One row for each argument.
    """
    for parameter in inspect.signature(component.__init__).parameters.values():
        if parameter.name in ('self', *filled_in):
            continue
        meaning = _render(find_meaning(component, parameter.name, documented), documented)
        if parameter.kind is parameter.VAR_KEYWORD:
            if not meaning:
                continue
            cells = (f'`**{parameter.name}`', '', '', meaning)
        else:
            required = parameter.default is parameter.empty
            default = '*required*' if required else f'`{_show(parameter.default)}`'
            cells = (f'`{parameter.name}`', f'`{parameter.annotation}`', default, meaning)
        yield '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'


def find_meaning(component: type, name: str, documented: dict[str, Any]) -> str:
    """What the docstrings say about an argument.

    Args:
        component: The class; its bases of this package are read after it, then the classes that
            its entries refer to.
        name: The argument.
        documented: Classes that can be referred to, by name.

    Returns:
        The text; a mere reference if there is nothing else, empty if nobody says anything.
    """
    own = [base for base in component.__mro__ if base.__module__.startswith('ciba_bev')]
    sections = [split_docstring(base).get('Args', []) for base in own]
    entries = [parse_entries(lines) for lines in sections]
    statements = [line.strip() for lines in sections for line in lines[:1]]
    statements += [text for texts in entries for text in texts.values()]
    for reference in filter(None, map(_SEE.match, statements)):
        other = documented.get(reference.group(1).split('.')[-1])
        if other is not None:
            entries.append(parse_entries(split_docstring(other).get('Args', [])))
    texts = [texts[name] for texts in entries if texts.get(name)]
    return next((text for text in texts if not _SEE.match(text)), texts[0] if texts else '')


def split_docstring(component: Any) -> dict[str, list[str]]:
    """A docstring by section.

    Args:
        component: A class or function.

    Returns:
        Lines by section heading; under ``''`` the text before the first heading.
    """
    sections: dict[str, list[str]] = {'': []}
    current = ''
    for line in inspect.cleandoc(component.__doc__ or '').splitlines():
        heading = _SECTION.match(line)
        if heading and heading.group(1) != 'Source':
            current = heading.group(1)
            sections[current] = [heading.group(2)] if heading.group(2).strip() else []
        elif current and line and not line.startswith(' '):
            # Text that follows a section belongs to the description.
            current = ''
            sections[''] += ['', line]
        else:
            sections[current].append(line)
    return sections


def parse_entries(lines: list[str]) -> dict[str, str]:
    """The entries of an ``Args`` section, each as one line, by name of the argument."""
    entries: dict[str, str] = {}
    name = None
    for line in lines:
        entry = _ENTRY.match(line)
        if entry:
            name = entry.group(1).lstrip('\\*')
            entries[name] = entry.group(2).strip()
        elif name and line.strip():
            entries[name] = f'{entries[name]} {line.strip()}'
    return entries


def _render(text: str, documented: dict[str, Any]) -> str:
    """Docstring markup as Markdown."""

    def reference(match: re.Match) -> str:
        name = match.group(1).split('.')[-1]
        return _link(name) if name in documented else f'`{match.group(1).lstrip(".")}`'

    return _ROLE.sub(reference, text.strip()).replace('``', '`')


def _link(name: str) -> str:
    return f'[`{name}`](#{name.lower()})'


def _show(value: Any) -> str:
    """A default as a config would have it; never with an address in memory."""
    if callable(value):
        return value.__name__
    return repr(value)


def main() -> int:
    """Write the page, or compare it.

    Returns:
        The exit status: 1 if the page was to be compared and is out of date.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='only see whether it is up to date')
    arguments = parser.parse_args()
    page = make_page()
    if arguments.check:
        if PAGE.is_file() and PAGE.read_text(encoding='utf-8') == page:
            return 0
        print(f'{PAGE} is out of date: run {COMMAND}', file=sys.stderr)
        return 1
    write_file(PAGE, page)
    print(f'{PAGE} written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
