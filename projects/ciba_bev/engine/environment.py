"""What is installed, whether it fits together, and which implementation runs each operator.

The file is loaded by itself (tools/check_env.py) where anything else of the project may fail to
import: it looks at every package behind a guard.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import platform
import subprocess
import sys
import warnings
from typing import Any, Callable, NamedTuple, Sequence

try:
    from packaging.requirements import Requirement
except ImportError:  # packaging is there once anything is installed; pip brings a copy
    from pip._vendor.packaging.requirements import Requirement

OK, WARNING, ERROR = 'ok', 'warning', 'error'


class Package(NamedTuple):
    """A package that the project runs on.

    Attributes:
        requirement: Its name and the supported versions, as in requirements/*.txt.
        module: What is imported to see whether it works.
        cost: What does not work without it.
        remedy: The command that installs it.
        names: Other names under which it may be installed.
        needed: Whether nothing runs without it.
    """

    requirement: str
    module: str
    cost: str
    remedy: str
    names: tuple[str, ...] = ()
    needed: bool = True


class Finding(NamedTuple):
    """One line of the report: what was looked at, what is there, and what to do about it."""

    name: str
    found: str
    status: str = OK
    advice: str = ''


def _other(requirement: str, module: str) -> Package:
    return Package(
        requirement, module, 'A part of the project cannot run.', f"pip install '{requirement}'"
    )


SPCONV_BUILDS = tuple(f'spconv-cu{cuda}' for cuda in (126, 124, 121, 120, 118, 117, 116, 114, 113))
PACKAGES = (
    Package(
        'torch>=2.0',
        'torch',
        'Nothing runs.',
        "pip install 'torch>=2.0'  # the build for your CUDA version: see PyTorch's install page",
    ),
    Package(
        'mmengine>=0.8.0,<1.0.0',
        'mmengine',
        'Nothing runs: configs, registries and training are those of mmengine.',
        "pip install 'mmengine>=0.8.0,<1.0.0'",
        ('mmengine-lite',),
    ),
    Package(
        'mmcv>=2.0.0,<2.2.0',
        'mmcv.ops',
        'The detectors cannot be imported: mmdet3d needs mmcv and its operators.',
        "pip install 'mmcv-lite>=2.0.0,<2.2.0' ./projects/mmcv_operators  # or a compiled mmcv",
        ('mmcv-lite',),
    ),
    Package(
        'mmdet>=3.0.0,<3.4.0',
        'mmdet.models',
        'The detectors cannot be imported: mmdet3d needs mmdet.',
        "pip install 'mmdet>=3.0.0,<3.4.0'",
    ),
    Package(
        'mmdet3d>=1.1.0,<1.5.0',
        'mmdet3d.models',
        'The detectors cannot be imported.',
        "pip install --no-deps 'mmdet3d>=1.1.0,<1.5.0'",
    ),
    Package(
        'nuscenes-devkit>=1.1.10',
        'nuscenes',
        'mmdet3d.datasets cannot be imported, and nothing can be scored.',
        "pip install --no-deps 'nuscenes-devkit>=1.1.10'",
    ),
    Package(
        'spconv>=2.3.6,<2.4',
        'spconv.pytorch',
        "On a GPU, the voxel teacher (objectdgcnn_voxel01.py) computes with PyTorch's operators; "
        "mmdet3d's own voxel detectors need it everywhere.",
        'pip install spconv-cu126  # with an NVIDIA GPU; on a CPU: pip install spconv',
        SPCONV_BUILDS,
        needed=False,
    ),
    _other('numpy>=1.22', 'numpy'),
    _other('scipy', 'scipy'),
    _other('matplotlib>=3.5', 'matplotlib'),
    _other('pyquaternion>=0.9.5', 'pyquaternion'),
    _other('Pillow', 'PIL'),
    _other('pandas', 'pandas'),
    _other('Jinja2', 'jinja2'),
    _other('rich>=10', 'rich'),
    _other('tqdm', 'tqdm'),
    _other('tensorboard', 'tensorboard'),
    _other('psutil', 'psutil'),
    _other('av>=10', 'av'),
    _other('h5py>=3', 'h5py'),
)


def find_version(names: Sequence[str]) -> tuple[str, str] | None:
    """Return name and version of the first of several distributions that is installed."""
    for name in names:
        try:
            return name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def is_overwritten(names: Sequence[str]) -> bool:
    """Return whether several distributions of one package are installed into the same folder."""
    folders = []
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            folders.append(str(importlib.metadata.distribution(name).locate_file('')))
    return len(folders) > len(set(folders))


def check_packages(
    find: Callable[[Sequence[str]], tuple[str, str] | None] = find_version,
    load: Callable[[str], Any] = importlib.import_module,
    overwritten: Callable[[Sequence[str]], bool] = is_overwritten,
) -> list[Finding]:
    """Compare what is installed with what is supported, and import it.

    Args:
        find: Gives name and version of an installed distribution.
        load: Imports a module.
        overwritten: Tells whether distributions have replaced each other's files.

    Returns:
        One finding for each package, in the order in which they should be fixed.
    """
    lowest = (3, 8)
    python = Finding('Python', platform.python_version())
    if sys.version_info[:2] < lowest:
        python = python._replace(status=ERROR, advice='bash tools/setup.sh  # Python 3.8 or later')
    findings = [python, *(_check_package(package, find, load) for package in PACKAGES)]
    if overwritten(('mmcv', 'mmcv-lite')):
        place = next(i for i, finding in enumerate(findings) if finding.name == 'mmcv')
        advice = (
            'mmcv and mmcv-lite are both installed, into the same folder: files of one have '
            'replaced files of the other.\npip uninstall -y mmcv mmcv-lite; '
            + PACKAGES[place - 1].remedy
        )
        findings[place] = Finding('mmcv', 'mmcv and mmcv-lite', ERROR, advice)
    return findings


def _check_package(package: Package, find: Callable, load: Callable) -> Finding:
    requirement = Requirement(package.requirement)
    status = ERROR if package.needed else WARNING
    installed = find((requirement.name, *package.names))
    if installed is None:
        advice = f'{package.cost}\n{package.remedy}'
        return Finding(requirement.name, 'not installed', status, advice)
    name, version = installed
    found = version if name == requirement.name else f'{version} ({name})'
    if not requirement.specifier.contains(version, prereleases=True):
        advice = f'Supported is {requirement.specifier}. {package.cost}\n{package.remedy}'
        return Finding(requirement.name, found, status, advice)
    try:
        load(package.module)
    except Exception as error:  # packages raise errors of every kind when they do not fit
        reason = next(iter(str(error).splitlines()), '')
        advice = (
            f'It cannot be imported ({type(error).__name__}: {reason}). {package.cost}\n'
            f'{package.remedy}  # after what the message names is fixed'
        )
        return Finding(requirement.name, found, status, advice)
    return Finding(requirement.name, found)


def check_operators() -> list[Finding]:
    """Say which implementation runs each operator of the configs on this machine.

    Returns:
        One finding for the device and one for each operator.
    """
    import torch
    from mmcv import ops as mmcv_ops  # noqa: F401

    from ciba_bev.ops.deformable_attention import available_backends

    on_gpu = torch.cuda.is_available()
    attention = available_backends(torch.device('cuda' if on_gpu else 'cpu'))[0]
    compiled = _compiled_mmcv()
    is_compiled = compiled == 'CUDA' or (compiled and not on_gpu)
    others = 'compiled mmcv' if is_compiled else 'mmcv_operators'
    slower = 'Several times slower than Triton.\npip install triton  # comes with torch for CUDA'
    return [
        _check_device(),
        Finding(
            'deformable attention (BEVFormer, Object-DGCNN)',
            attention,
            *((WARNING, slower) if on_gpu and attention == 'pytorch' else ()),
        ),
        Finding('voxelization (Object-DGCNN)', 'PyTorch, by sorting' if on_gpu else 'Numba'),
        _check_sparse_convolution(),
        Finding('focal loss (training)', others),
        Finding('deformable convolution (bevformer_base.py, *_dcn_*.py)', others),
    ]


def _check_device() -> Finding:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch's own words on old drivers
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    build = f'torch for CUDA {torch.version.cuda}' if torch.version.cuda else 'CPU build of torch'
    if gpus:
        return Finding('device', f'{", ".join(gpus)}; {build}')
    unused = list_gpus()
    if unused and torch.version.cuda:
        advice = (
            f'{unused[0]} is there, but torch cannot use it: the driver is too old for CUDA '
            f'{torch.version.cuda}, or CUDA_VISIBLE_DEVICES hides it.\n'
            'Update the driver, or install the torch build for its CUDA version (nvidia-smi names '
            "it): see PyTorch's install page"
        )
    elif unused:
        advice = (
            f'{unused[0]} is there, but this build of torch is for CPUs.\n'
            "Install the build for CUDA: see PyTorch's install page"
        )
    else:
        advice = 'Enough for the quickstart and the tests, not for training on nuScenes.'
    return Finding('device', f'CPU; {build}', WARNING, advice)


def list_gpus() -> list[str]:
    """Return the names of the GPUs that the NVIDIA driver knows, whatever torch makes of them."""
    command = ['nvidia-smi', '--query-gpu=name', '--format=csv,noheader']
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [name for name in listed.stdout.splitlines() if name.strip()]


def _check_sparse_convolution() -> Finding:
    import torch

    from ciba_bev.ops.sparse_convolution import find_implementation

    name = 'sparse convolution (objectdgcnn_voxel01.py)'
    package = find_implementation().__name__.split('.')[0]
    if package.startswith('spconv'):
        builds = (*SPCONV_BUILDS, 'spconv') if package == 'spconv' else ('spconv-triton',)
        return Finding(name, ' '.join(find_version(builds) or (package,)))
    if not torch.cuda.is_available():
        return Finding(name, 'PyTorch')
    advice = (
        'spconv is made for GPUs.\npip install spconv-cu126  # or, without binaries, spconv-triton'
    )
    return Finding(name, 'PyTorch', WARNING, advice)


def _compiled_mmcv() -> str:
    """Return ``'CUDA'`` or ``'CPU'`` if mmcv's operators are compiled; empty if they are not."""
    extension = importlib.import_module('mmcv._ext')
    if not str(getattr(extension, '__file__', '')).endswith('.so'):
        return ''
    return 'CPU' if extension.get_compiling_cuda_version() == 'not available' else 'CUDA'


def format_report(findings: Sequence[Finding]) -> str:
    """Return the report as text: a table, and below it what to do.

    Args:
        findings: From :func:`check_packages` and :func:`check_operators`.
    """
    width = max(len(finding.name) for finding in findings)
    lines = [f'{status:<8} {name:<{width}}  {found}' for name, found, status, _ in findings]
    for name, _, status, advice in findings:
        if status != OK:
            lines += ['', f'{name} ({status}): ' + advice.replace('\n', '\n    ')]
    return '\n'.join(lines)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/check_env.py."""
    parser = argparse.ArgumentParser(
        description='Say what is installed, whether it fits together, and which implementation '
        'runs each operator.'
    )
    parser.add_argument('--full', action='store_true', help="add mmengine's own long report")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run tools/check_env.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The exit status: 0 if all that is needed is there and fits, otherwise 1.
    """
    args = parse_args(arguments)
    findings = check_packages()
    usable = all(finding.status != ERROR for finding in findings)
    print(format_report(findings + (check_operators() if usable else [])))
    if usable and args.full:
        from mmengine.utils.dl_utils import collect_env

        print(*(f'{key}: {value}' for key, value in collect_env().items()), sep='\n')
    print()
    if usable:
        print('All that is needed is there and fits.')
    else:
        print('Something needed is missing or does not fit: fix it from the top of the list down.')
    return 0 if usable else 1
