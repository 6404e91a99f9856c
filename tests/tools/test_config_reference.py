"""tools/make_config_reference.py: the committed page, and what it makes of docstrings."""

import importlib.util
import inspect
import re
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def reference():
    specification = importlib.util.spec_from_file_location(
        'make_config_reference', PROJECT / 'tools' / 'make_config_reference.py'
    )
    module = importlib.util.module_from_spec(specification)
    sys.modules['make_config_reference'] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def page(reference):
    return reference.make_page()


def test_the_committed_page_is_up_to_date(reference, page):
    committed = reference.PAGE.read_text(encoding='utf-8')
    assert committed == page, f'run {reference.COMMAND}'


def test_every_component_named_by_a_config_is_on_the_page(page):
    configs = (PROJECT / 'configs').rglob('*.py')
    text = '\n'.join(path.read_text(encoding='utf-8') for path in configs)
    names = set(re.findall(r"type='ciba_bev\.(\w+)'", text))
    assert {'BEVFormer', 'ObjectDGCNN', 'Distiller', 'BottleneckTraining'} <= names
    assert [name for name in sorted(names) if f'\n### {name}\n' not in page] == []


def test_every_argument_has_a_meaning(page):
    assert [line for line in page.splitlines() if re.search(r'\|\s*\|$', line)] == []


def test_nothing_of_the_machine_gets_in(page):
    assert str(PROJECT) not in page
    assert not re.search(r'0x[0-9a-f]{6,}|<class|<function', page)


def test_links_within_the_page(page):
    headings = {heading.lower() for heading in re.findall(r'^### (\w+)$', page, re.M)}
    assert set(re.findall(r'\]\(#(\w+)\)', page)) <= headings


class Base:
    """A base.

    Args:
        width: Channels of the
            output, C.
        depth: Layers.
    """


class Derived(Base):
    """What it is for.

    More about ``it``, see :class:`Base`.

    Args:
        width: See :class:`Base`.
        names: One for each; ``'a'`` or ``'b'``.

    Raises:
        ValueError: Never.
    """

    def __init__(
        self,
        width: 'int',
        names: 'list[str] | None' = None,
        depth: 'int' = 2,
        *,
        act: 'type' = dict,
    ) -> None:
        """Not shown."""


@pytest.fixture
def own(monkeypatch):
    """The two classes as if they were the package's."""
    for kind in (Base, Derived):
        monkeypatch.setattr(kind, '__module__', 'ciba_bev.somewhere')
    return {'Base': Base, 'Derived': Derived}


def test_rows(reference, own):
    assert list(reference.argument_rows(Derived, own, ('act',))) == [
        '| `width` | `int` | *required* | Channels of the output, C. |',
        "| `names` | `list[str] \\| None` | `None` | One for each; `'a'` or `'b'`. |",
        '| `depth` | `int` | `2` | Layers. |',
    ]


def test_description(reference, own):
    text = reference.split_docstring(Derived)['']
    assert '\n'.join(text).strip().startswith('What it is for.')
    assert 'Args' not in '\n'.join(text)
    assert 'Raises' in reference.split_docstring(Derived)


def test_types_are_shown_as_they_are_written(reference, own):
    # The page must not depend on how a Python version prints annotations.
    from ciba_bev.distillation import Distiller

    annotation = inspect.signature(Distiller.__init__).parameters['bottleneck'].annotation
    assert annotation == 'dict | None'
