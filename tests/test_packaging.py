"""What `pip install .` installs: the packages, their data, and configs and tools for mim."""

import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import ciba_bev

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ('ciba_bev', 'nuscenes_simulation')


def files_below(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel's file, built in a copy of the sources."""
    pytest.importorskip('setuptools', '64')
    folder = tmp_path_factory.mktemp('wheel')
    copy = folder / 'project'
    copy.mkdir()
    for name in ('projects', 'configs', 'tools', 'requirements', 'tests'):
        ignored = shutil.ignore_patterns('__pycache__', '*.egg-info')
        shutil.copytree(PROJECT / name, copy / name, symlinks=True, ignore=ignored)
    for path in PROJECT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    code = 'import sys, setuptools.build_meta as build; build.build_wheel(sys.argv[1])'
    subprocess.run(
        [sys.executable, '-c', code, str(folder)], cwd=copy, check=True, capture_output=True
    )
    (built,) = folder.glob('*.whl')
    return built


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """The folder that the wheel is unpacked in, as pip does in site-packages."""
    folder = tmp_path_factory.mktemp('site-packages')
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder)
    return folder


def run_installed(installed, *words):
    # Away from the repository, whose package is not to be found.
    environment = {**os.environ, 'PYTHONPATH': str(installed)}
    return subprocess.run(
        [sys.executable, *words], cwd=installed, env=environment, capture_output=True, text=True
    )


def test_the_packages_are_there_whole_and_nothing_else(wheel, installed):
    version = ciba_bev.__version__
    assert wheel.name == f'ciba_bev-{version}-py3-none-any.whl'
    assert {path.name for path in installed.iterdir()} == {
        *PACKAGES,
        f'ciba_bev-{version}.dist-info',
    }
    for package in PACKAGES:
        sources = {
            name
            for name in files_below(PROJECT / 'projects' / package)
            if not name.startswith('.mim/')
        }
        found = {name for name in files_below(installed / package) if not name.startswith('.mim/')}
        assert found == sources


def test_mim_finds_configs_tools_and_their_index(installed):
    folder = installed / 'ciba_bev' / '.mim'
    for name in ('configs', 'tools'):
        place = folder / ('configs/configs' if name == 'configs' else name)
        assert files_below(place) == files_below(PROJECT / name)
        for file in files_below(place):
            assert (place / file).read_bytes() == (PROJECT / name / file).read_bytes()
    for name in yaml.safe_load((folder / 'model-index.yml').read_text())['Import']:
        assert yaml.safe_load((folder / name).read_text())['Models']


def test_one_version_and_the_extras(installed):
    (file,) = installed.glob('*.dist-info/METADATA')
    metadata = email.message_from_string(file.read_text())
    citation = yaml.safe_load((PROJECT / 'CITATION.cff').read_text())
    assert metadata['Version'] == citation['version'] == ciba_bev.__version__
    extras = set(metadata.get_all('Provides-Extra'))
    assert {'detection', 'classification', 'docs', 'test'} <= extras
    required = ' '.join(metadata.get_all('Requires-Dist'))
    for text in ('torch>=2.0', 'extra == "detection"', 'extra == "classification"'):
        assert text in required.replace("'", '"')


@pytest.mark.slow
def test_other_configs_inherit_from_an_installed_package(installed, tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text(
        "_base_ = ['ciba_bev::configs/bevformer_r50.py']\n"
        'model = dict(pts_bbox_head=dict(bev_h=64))\n'
    )
    code = (
        'import ciba_bev, mmengine, mmengine.hub\n'
        f'inherited = mmengine.Config.fromfile({str(config)!r})\n'
        "found = mmengine.hub.get_config('ciba_bev::configs/bevformer_r50.py')\n"
        'head = found.model.pts_bbox_head\n'
        'print(ciba_bev.__file__, inherited.model.type, inherited.model.pts_bbox_head.bev_h,\n'
        '      inherited.model.pts_bbox_head.bev_w == head.bev_w, head.bev_h)'
    )
    result = run_installed(installed, '-c', code)
    assert result.returncode == 0, result.stderr
    printed = result.stdout.splitlines()[-1].split()
    assert printed == [
        str(installed / 'ciba_bev' / '__init__.py'),
        'ciba_bev.BEVFormer',
        '64',
        'True',
        '128',
    ]


@pytest.mark.slow
def test_installed_tools_run(installed):
    tool = installed / 'ciba_bev' / '.mim' / 'tools' / 'train.py'
    result = run_installed(installed, str(tool), '--help')
    assert result.returncode == 0, result.stderr
    assert '--resume' in result.stdout
