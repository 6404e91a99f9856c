from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mmcv_operators

PACKAGE = Path(__file__).resolve().parents[2] / 'projects' / 'mmcv_operators'


def run_python(code: str, *path: Path) -> str:
    """Run without installed packages (``-S``), of which ours may be one that is active already."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (*path, PACKAGE.parent))))
    result = subprocess.run(
        [sys.executable, '-S', '-c', code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


@pytest.fixture
def bare_mmcv(tmp_path: Path) -> Path:
    """A folder with an mmcv that has nothing at all."""
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').touch()
    return tmp_path


def test_importing_the_package_loads_nothing_else():
    code = (
        'import os, sys; before = set(sys.modules); import mmcv_operators; '
        'print(*sorted(set(sys.modules) - before))'
    )
    assert run_python(code) == '__future__ mmcv_operators'


def test_an_mmcv_without_operators_gets_them(bare_mmcv):
    code = """
import sys, mmcv_operators, mmcv._ext
print(mmcv_operators.is_used(), mmcv._ext.__file__)
assert all(hasattr(mmcv._ext, name) for name in mmcv_operators.OPERATORS)
mmcv._ext.roi_align_forward, mmcv._ext.get_compiler_version()
print([name for name in ('numba', 'numpy', 'torch') if name in sys.modules])
"""
    used, loaded = run_python(code, bare_mmcv).splitlines()
    assert used == f'True {PACKAGE / "extension.py"}'
    assert loaded == '[]'


def test_nothing_else_is_found(bare_mmcv):
    code = """
import mmcv_operators
try:
    import mmcv._extension
except ModuleNotFoundError as error:
    print(error)
"""
    assert run_python(code, bare_mmcv) == "No module named 'mmcv._extension'"


def test_compiled_operators_are_preferred(bare_mmcv):
    # Python knows a compiled module by its name; that it is none is found out later.
    from importlib.machinery import EXTENSION_SUFFIXES

    compiled = bare_mmcv / 'mmcv' / f'_ext{EXTENSION_SUFFIXES[0]}'
    compiled.touch()
    code = """
import mmcv_operators
from importlib.util import find_spec
print(mmcv_operators.is_used(), find_spec('mmcv._ext').origin)
"""
    assert run_python(code, bare_mmcv) == f'False {compiled}'


def test_the_installed_compiled_operators_are_preferred(compiled):
    assert compiled.__file__.endswith('.so')
    assert not mmcv_operators.is_used()


def test_a_missing_operator_is_an_error_when_it_is_called(ours):
    operator = ours.roi_align_forward
    with pytest.raises(NotImplementedError) as error:
        operator(1, pooled_height=2)
    message = str(error.value)
    assert "'roi_align_forward'" in message
    assert 'pip uninstall mmcv-lite' in message
    assert 'MMCV_WITH_OPS=1 pip install' in message


def test_private_names_do_not_exist(ours):
    assert not hasattr(ours, '__path__')
    assert not hasattr(ours, '_missing_one')


def names_that_mmcv_asks_for() -> set[str]:
    import mmcv.ops

    names = set()
    for file in Path(mmcv.ops.__file__).parent.glob('*.py'):
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith('load_ext'):
                names.update(ast.literal_eval(node.args[1]))
    return names


def test_every_name_that_mmcv_asks_for_exists(ours):
    names = names_that_mmcv_asks_for()
    assert len(names) > 100
    assert set(mmcv_operators.OPERATORS) <= names
    assert all(callable(getattr(ours, name)) for name in names)


@pytest.mark.parametrize('name', sorted(mmcv_operators.OPERATORS))
def test_parameters_have_the_names_and_the_order_of_the_compiled_operator(compiled, name):
    from importlib import import_module
    from inspect import signature

    signature_line = getattr(compiled, name).__doc__.splitlines()[0]
    expected = re.findall(r'(\w+): ', signature_line)
    module = import_module(f'mmcv_operators.{mmcv_operators.OPERATORS[name]}')
    assert list(signature(getattr(module, name)).parameters) == expected


@pytest.mark.parametrize('command', ['bdist_wheel', 'editable_wheel'])
def test_the_installed_package_is_active_when_python_starts(tmp_path, command):
    pytest.importorskip('wheel')
    source = tmp_path / 'mmcv_operators'
    shutil.copytree(
        PACKAGE, source, ignore=shutil.ignore_patterns('__pycache__', 'build', '*.egg-info')
    )
    subprocess.run(
        [sys.executable, 'setup.py', '-q', command, '--dist-dir', str(tmp_path / 'built')],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / 'built').glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert archive.read('mmcv_operators.pth').decode().strip() == 'import mmcv_operators'
    assert not any('setup' in name for name in names)
    if command == 'bdist_wheel':
        modules = {f'mmcv_operators/{file.name}' for file in PACKAGE.glob('*.py')}
        assert modules - {'mmcv_operators/setup.py'} <= set(names)
