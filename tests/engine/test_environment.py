"""The report on an environment, for environments that are not this one."""

import re
import runpy
import subprocess
import sys
import types
from pathlib import Path

import pytest

from ciba_bev.engine import environment
from ciba_bev.engine.environment import check_operators, check_packages, format_report

PROJECT = Path(__file__).resolve().parents[2]
VERSIONS = {
    'torch': '2.0.1+cu118',
    'mmengine': '0.8.4',
    'mmcv': '2.0.1',
    'mmdet': '3.0.0',
    'mmdet3d': '1.2.0',
    'numpy': '1.24.4',
    'nuscenes-devkit': '1.1.11',
}


def findings_of(load=lambda module: None, overwritten=lambda names: False, **versions):
    """What is found where these versions are installed; None takes one away."""
    known = {**VERSIONS, **{name.replace('_', '-'): v for name, v in versions.items()}}

    def find(names):
        found = [(name, known.get(name, '99')) for name in names if known.get(name, '99')]
        return found[0] if found else None

    return {finding.name: finding for finding in check_packages(find, load, overwritten)}


def test_what_most_people_run_is_supported():
    statuses = {name: finding.status for name, finding in findings_of(spconv='2.3.6').items()}
    assert set(statuses.values()) == {'ok'}, statuses


@pytest.mark.parametrize(
    ('name', 'version', 'status'),
    [
        ('torch', '1.13.1', 'error'),
        ('torch', '2.13.0+cpu', 'ok'),
        ('torch', '2.14.0.dev20260101', 'ok'),
        ('mmcv', '2.2.0', 'error'),
        ('mmcv', '1.7.1', 'error'),
        ('mmdet', '3.4.0', 'error'),
        ('mmdet3d', '1.0.0rc6', 'error'),
        ('mmdet3d', '1.4.0', 'ok'),
        ('numpy', '2.4.6', 'ok'),
        ('spconv', '2.1.0', 'warning'),
    ],
)
def test_ranges(name, version, status):
    found = findings_of(**{name: version})[name]
    assert found.status == status
    assert found.found == version
    assert ('pip install' in found.advice) == (status != 'ok')


def test_the_ranges_are_those_of_the_requirement_files():
    text = ''.join(
        (PROJECT / 'requirements' / f'{name}.txt').read_text()
        for name in ('runtime', 'mminstall', 'optional', 'classification')
    )
    listed = {line.strip() for line in text.splitlines()}
    checked = {package.requirement for package in environment.PACKAGES}
    assert checked <= listed, checked - listed


def test_another_distribution_of_the_same_package():
    found = findings_of(mmcv=None, mmcv_lite='2.1.0')['mmcv']
    assert (found.found, found.status) == ('2.1.0 (mmcv-lite)', 'ok')


def test_mmcv_and_mmcv_lite_in_one_folder(tmp_path, monkeypatch):
    for folder, name in (('one', 'mmcv'), ('one', 'mmcv-lite'), ('parent', 'mmcv')):
        metadata = tmp_path / folder / f'{name.replace("-", "_")}-2.1.0.dist-info' / 'METADATA'
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 2.1.0\n')
    names = ('mmcv', 'mmcv-lite')
    monkeypatch.setattr(sys, 'path', [str(tmp_path / 'one')])
    assert environment.is_overwritten(names)
    found = findings_of(overwritten=environment.is_overwritten)['mmcv']
    assert (found.found, found.status) == ('mmcv and mmcv-lite', 'error')
    assert 'pip uninstall -y mmcv mmcv-lite; pip install' in found.advice

    # One of an environment, one of the environment below it, whose files stay as they are.
    (tmp_path / 'one' / 'mmcv-2.1.0.dist-info' / 'METADATA').unlink()
    (tmp_path / 'one' / 'mmcv-2.1.0.dist-info').rmdir()
    monkeypatch.setattr(sys, 'path', [str(tmp_path / 'one'), str(tmp_path / 'parent')])
    assert environment.find_version(names) == ('mmcv', '2.1.0')
    assert not environment.is_overwritten(names)


def test_a_missing_package_comes_with_its_command():
    found = findings_of(mmcv=None, mmcv_lite=None)['mmcv']
    assert (found.found, found.status) == ('not installed', 'error')
    assert 'mmcv_operators' in found.advice


def test_an_import_that_fails_gives_its_reason():
    def load(module):
        if module == 'mmdet.models':
            raise AssertionError('MMCV==2.1.0 is used but incompatible.\nmore')

    found = findings_of(load)['mmdet']
    assert found.status == 'error'
    assert '(AssertionError: MMCV==2.1.0 is used but incompatible.)' in found.advice


def test_the_report_lists_everything_and_advises_where_needed():
    report = format_report(list(findings_of(mmdet=None).values()))
    assert re.search(r'^ok +torch +2\.0\.1\+cu118$', report, re.M)
    assert re.search(r'^error +mmdet +not installed$', report, re.M)
    assert re.findall(r'^(\S+) \((?:error|warning)\): ', report, re.M)[0] == 'mmdet'


def test_operators_of_this_machine():
    found = {finding.name.split(' (')[0]: finding.found for finding in check_operators()}
    names = {'device', 'deformable attention', 'voxelization', 'sparse convolution'}
    assert names | {'focal loss', 'deformable convolution'} == set(found)
    extension = sys.modules['mmcv._ext'].__file__
    expected = 'compiled mmcv' if extension.endswith('.so') else 'mmcv_operators'
    assert found['deformable convolution'] == expected


@pytest.mark.parametrize(
    ('listed', 'cuda', 'told'),
    [
        ('Some Card', '13.0', 'the driver is too old for CUDA 13.0'),
        ('Some Card', None, 'this build of torch is for CPUs'),
        ('', '13.0', 'Enough for the quickstart'),
        (None, '13.0', 'Enough for the quickstart'),
    ],
)
def test_a_gpu_that_torch_cannot_use(tmp_path, monkeypatch, listed, cuda, told):
    if listed is not None:
        (tmp_path / 'nvidia-smi').write_text(f'#!/bin/sh\necho "{listed}"\n')
        (tmp_path / 'nvidia-smi').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    monkeypatch.setattr('torch.version.cuda', cuda)
    device = environment._check_device()
    assert device.status == 'warning'
    assert told in device.advice


@pytest.mark.parametrize(
    ('module', 'gpu', 'found', 'status'),
    [
        ('ciba_bev.ops.sparse_convolution', False, 'PyTorch', 'ok'),
        ('ciba_bev.ops.sparse_convolution', True, 'PyTorch', 'warning'),
        ('spconv.pytorch', True, 'spconv-cu126 2.3.8', 'ok'),
        ('spconv_triton.pytorch', True, 'spconv-triton 1.0.0', 'ok'),
    ],
)
def test_who_computes_sparse_convolutions(monkeypatch, module, gpu, found, status):
    versions = {'spconv-cu126': '2.3.8', 'spconv-triton': '1.0.0'}
    monkeypatch.setattr(
        environment,
        'find_version',
        lambda names: next(((name, versions[name]) for name in names if name in versions), None),
    )
    monkeypatch.setattr(
        'ciba_bev.ops.sparse_convolution.find_implementation', lambda: types.ModuleType(module)
    )
    monkeypatch.setattr('torch.cuda.is_available', lambda: gpu)
    finding = environment._check_sparse_convolution()
    assert (finding.found, finding.status) == (found, status)


TOOL = str(PROJECT / 'tools' / 'check_env.py')


def test_the_tool_here(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [TOOL])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(TOOL, run_name='__main__')
    printed = capsys.readouterr().out
    assert ended.value.code == 0, printed
    assert re.search(r'^ok +mmdet3d +\d', printed, re.M)
    assert printed.endswith('All that is needed is there and fits.\n')


def test_the_tool_where_little_is_installed(tmp_path):
    # A package that fails to import stands for one that is not there.
    (tmp_path / 'torch.py').write_text("raise ImportError('libcudart.so.12: cannot open')\n")
    completed = subprocess.run(
        [sys.executable, TOOL],
        capture_output=True,
        text=True,
        timeout=120,
        env={'PYTHONPATH': str(tmp_path)},
    )
    assert completed.returncode == 1, completed.stderr
    assert 'libcudart.so.12: cannot open' in completed.stdout
