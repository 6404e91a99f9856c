"""The report on an environment, for environments that are not this one."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ciba_bev.engine import environment as environment_report
from ciba_bev.engine.environment import (
    REQUIREMENTS,
    SMALL_PACKAGES,
    assess,
    fits,
    look_around,
    main,
    parse_version,
)

PROJECT = Path(__file__).resolve().parents[2]

VERSIONS = {
    'torch': '2.0.1+cu118',
    'mmengine': '0.8.4',
    'mmcv': '2.0.1',
    'mmdet': '3.0.0',
    'mmdet3d': '1.2.0',
    'numpy': '1.24.4',
    'nuscenes-devkit': '1.1.11',
    **{distribution: '1.0' for distribution, _ in SMALL_PACKAGES},
}


def environment_loader(cuda='11.8', gpus=('GPU A',), operators='11.8', broken=None):
    """An import that gives modules as they are where torch and mmcv are such."""

    def load(module):
        if module in (broken or {}):
            raise broken[module]
        if module == 'torch':
            return SimpleNamespace(
                version=SimpleNamespace(cuda=cuda),
                cuda=SimpleNamespace(
                    is_available=lambda: bool(gpus),
                    device_count=lambda: len(gpus),
                    get_device_name=lambda index: gpus[index],
                ),
            )
        if module == 'mmcv._ext':
            if operators is None:
                raise ModuleNotFoundError("No module named 'mmcv._ext'")
            return SimpleNamespace(get_compiling_cuda_version=lambda: operators)
        return SimpleNamespace()

    return load


def environment_of(versions=None, **modules):
    """What is seen where these versions are installed; None takes one away."""
    return look_around({**VERSIONS, **(versions or {})}.get, environment_loader(**modules))


def finding(environment, name):
    return next(found for found in assess(environment) if found.name == name)


def test_what_most_people_run_fits():
    findings = assess(environment_of())
    assert fits(findings)
    assert {found.verdict for found in findings} == {'fits'}


@pytest.mark.parametrize(
    ('name', 'version', 'verdict'),
    [
        ('torch', '1.13.1', 'wrong'),
        ('torch', '2.13.0', 'fits'),
        ('torch', '2.14.0', 'remark'),
        ('torch', None, 'wrong'),
        ('mmengine', '0.7.4', 'wrong'),
        ('mmengine', '0.8.0', 'fits'),
        ('mmengine', '0.10.7', 'fits'),
        ('mmengine', '0.11.0', 'remark'),
        ('mmengine', '1.0.0', 'wrong'),
        ('mmcv', '1.7.2', 'wrong'),
        ('mmcv', '2.2.0', 'wrong'),
        ('mmcv', None, 'wrong'),
        ('mmdet', '2.28.2', 'wrong'),
        ('mmdet', '3.4.0', 'wrong'),
        ('mmdet3d', '1.0.0rc6', 'wrong'),
        ('mmdet3d', '1.1.1', 'fits'),
        ('mmdet3d', '1.4.0', 'fits'),
        ('mmdet3d', '1.5.0', 'wrong'),
        ('numpy', '1.21.6', 'wrong'),
        ('numpy', '2.1.0', 'wrong'),
        ('nuscenes-devkit', '1.1.9', 'wrong'),
        ('nuscenes-devkit', None, 'wrong'),
    ],
)
def test_ranges(name, version, verdict):
    environment = environment_of({name: version})
    found = finding(environment, name)
    assert found.verdict == verdict
    assert fits(assess(environment)) is (verdict != 'wrong')
    if verdict != 'fits':
        assert found.cost
        assert found.remedy


def test_the_ranges_are_those_of_the_requirement_files():
    """Against the files that pip reads, with pip's own arithmetic."""
    requirements = pytest.importorskip('packaging.requirements')
    lines = [
        line.split('#')[0].strip()
        for name in ('mminstall', 'runtime', 'optional')
        for line in (PROJECT / 'requirements' / f'{name}.txt').read_text().splitlines()
    ]
    specifiers = {
        parsed.name: parsed.specifier
        for parsed in map(requirements.Requirement, filter(None, lines))
    }
    for requirement in REQUIREMENTS:
        specifier = specifiers.pop(requirement.name)
        for bound, inside in ((requirement.lowest, True), (requirement.below, False)):
            if bound is not None:
                assert specifier.contains('.'.join(map(str, bound))) is inside, requirement.name
        if requirement.below is None:
            assert specifier.contains('999.0'), requirement.name
        assert not specifier.contains('0.0.1')
    # What remains has no range that matters.
    optional = (PROJECT / 'requirements' / 'optional.txt').read_text()
    needed = {name for name in specifiers if not re.search(rf'^{name}\b', optional, re.M)}
    assert needed == {name for name, _ in SMALL_PACKAGES}


@pytest.mark.parametrize(
    ('versions', 'name'),
    [
        # As the assertions in the packages' own __init__.py have it.
        ({'mmdet3d': '1.1.1', 'mmdet': '3.0.0', 'mmcv': '2.0.1'}, None),
        ({'mmdet3d': '1.1.1', 'mmdet': '3.0.0', 'mmcv': '2.1.0'}, 'mmcv'),
        ({'mmdet3d': '1.1.1', 'mmdet': '3.1.0', 'mmcv': '2.0.1'}, 'mmdet'),
        ({'mmdet3d': '1.2.0', 'mmdet': '3.1.0', 'mmcv': '2.0.1'}, None),
        ({'mmdet3d': '1.2.0', 'mmdet': '3.2.0', 'mmcv': '2.0.1'}, 'mmdet'),
        ({'mmdet3d': '1.3.0', 'mmdet': '3.2.0', 'mmcv': '2.1.0'}, None),
        ({'mmdet3d': '1.3.0', 'mmdet': '3.1.0', 'mmcv': '2.1.0'}, 'mmcv'),
        ({'mmdet3d': '1.3.0', 'mmdet': '3.3.0', 'mmcv': '2.1.0'}, 'mmdet'),
        ({'mmdet3d': '1.4.0', 'mmdet': '3.3.0', 'mmcv': '2.1.0'}, None),
    ],
)
def test_versions_that_refuse_each_other(versions, name):
    findings = assess(environment_of(versions))
    assert [found.name for found in findings if found.verdict == 'wrong'] == (
        [name] if name else []
    )
    if name:
        assert 'refuses' in finding(environment_of(versions), name).cost


@pytest.mark.parametrize(
    ('mmengine', 'yapf', 'fitting'),
    [
        ('0.8.4', '0.40.1', True),
        ('0.8.4', '0.40.2', False),
        ('0.8.5', '0.43.0', True),
        ('0.8.4', None, True),
    ],
)
def test_yapf(mmengine, yapf, fitting):
    findings = assess(environment_of({'mmengine': mmengine, 'yapf': yapf}))
    assert fits(findings) is fitting
    assert ('yapf' in [found.name for found in findings]) is not fitting


def test_mmcv_without_operators():
    environment = environment_of({'mmcv': None, 'mmcv-lite': '2.1.0'}, operators=None)
    assert finding(environment, 'mmcv').found == '2.1.0 (mmcv-lite)'
    found = finding(environment, 'mmcv operators')
    assert found.verdict == 'wrong'
    assert "No module named 'mmcv._ext'" in found.cost
    assert 'FORCE_CUDA=1' in found.remedy


def test_mmcv_without_cuda_operators():
    with_gpu = finding(environment_of(operators='not available'), 'mmcv operators')
    assert with_gpu.verdict == 'wrong'
    assert 'FORCE_CUDA=1' in with_gpu.remedy
    # No number that has not been measured.
    assert not re.search(r'\d+ ?(x|times)\b', with_gpu.cost)
    without = environment_of(operators='not available', gpus=(), cuda=None)
    assert finding(without, 'mmcv operators').verdict == 'fits'
    assert fits(assess(without))


def test_mmcv_for_another_cuda():
    assert finding(environment_of(operators='12.1'), 'mmcv operators').verdict == 'remark'
    assert finding(environment_of(operators='11.7'), 'mmcv operators').verdict == 'fits'


@pytest.mark.parametrize(
    ('cuda', 'driver', 'words'),
    [(None, False, 'none; CPU torch'), (None, True, 'driver'), ('12.1', False, 'CUDA 12.1')],
)
def test_no_gpu(monkeypatch, cuda, driver, words):
    monkeypatch.setattr(
        environment_report.shutil, 'which', lambda name: '/bin/nvidia-smi' if driver else None
    )
    environment = environment_of(cuda=cuda, gpus=())
    found = finding(environment, 'GPU')
    assert found.verdict == 'remark'
    assert words in found.found
    assert fits(assess(environment))


def test_several_gpus():
    found = finding(environment_of(gpus=('GPU A', 'GPU A', 'GPU B')), 'GPU')
    assert found.found == '2 x GPU A, 1 x GPU B; torch for CUDA 11.8'


def test_spconv_matters_only_without_cuda_operators():
    assert finding(environment_of(), 'spconv').verdict == 'fits'
    on_cpu = environment_of(operators='not available', gpus=(), cuda=None)
    assert finding(on_cpu, 'spconv').verdict == 'remark'
    with_spconv = environment_of({'spconv-cu118': '2.3.6'})
    assert finding(with_spconv, 'spconv').found == '2.3.6 (spconv-cu118)'


def test_an_import_that_fails():
    broken = {'mmdet3d': AssertionError('MMCV==2.1.0 is used but incompatible.\nMore lines.')}
    environment = environment_of(broken=broken)
    found = finding(environment, 'mmdet3d')
    assert found.verdict == 'wrong'
    assert 'AssertionError: MMCV==2.1.0 is used but incompatible.' in found.cost
    assert 'More lines' not in found.cost


def test_small_packages():
    environment = environment_of(
        {'scipy': None}, broken={'matplotlib': ImportError('no library libpng')}
    )
    found = finding(environment, 'other packages')
    assert found.verdict == 'wrong'
    assert 'missing: scipy' in found.found
    assert 'no library libpng' in found.found
    assert found.remedy.endswith(' scipy matplotlib')


def test_nothing_installed():
    environment = look_around(lambda name: None, pytest.fail)
    findings = assess(environment)
    assert not fits(findings)
    wrong = {found.name for found in findings if found.verdict == 'wrong'}
    needed = {requirement.name for requirement in REQUIREMENTS if requirement.needed}
    assert wrong == needed | {'other packages'}


@pytest.mark.parametrize('missing', ['torch', 'mmcv', 'rich'])
def test_json_and_exit_status(capsys, missing):
    versions = {**VERSIONS, missing: None}
    status = main(['--json'], versions.get, environment_loader())
    report = json.loads(capsys.readouterr().out)
    assert (status, report['fits']) == (1, False)
    assert set(report['pieces'][0]) == {'name', 'found', 'supported', 'verdict', 'cost', 'remedy'}


def test_exit_status_where_all_fits(capsys):
    assert main([], VERSIONS.get, environment_loader()) == 0
    assert 'All that is needed is there and fits.' in capsys.readouterr().out


def test_without_rich(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'rich.box', None)
    environment_report.print_report(assess(environment_of({'mmcv': '2.2.0'})))
    output = capsys.readouterr().out
    assert re.search(r'^wrong +mmcv +2\.2\.0  \(supported: from 2\.0, below 2\.2\)$', output, re.M)
    assert 'mim install' in output


@pytest.mark.parametrize(
    ('text', 'numbers'),
    [('2.0.1+cu118', (2, 0, 1)), ('1.0.0rc6', (1, 0, 0)), ('2', (2,)), ('unknown', ())],
)
def test_parse_version(text, numbers):
    assert parse_version(text) == numbers


def test_the_tool_runs_where_nothing_is_installed():
    # -S: without site-packages, so with the standard library alone.
    completed = subprocess.run(
        [sys.executable, '-S', str(PROJECT / 'tools' / 'check_env.py')],
        capture_output=True,
        text=True,
        env={},
        timeout=60,
    )
    assert completed.returncode == 1, completed.stderr
    assert re.search(r'^wrong +torch +not installed', completed.stdout, re.M)


def test_the_tool_here():
    completed = subprocess.run(
        [sys.executable, str(PROJECT / 'tools' / 'check_env.py'), '--json'],
        capture_output=True,
        text=True,
        timeout=120,
    )
    report = json.loads(completed.stdout)
    assert completed.returncode == (0 if report['fits'] else 1)
    assert {piece['name'] for piece in report['pieces']} >= {'torch', 'mmcv operators', 'mmdet3d'}
