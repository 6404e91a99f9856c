"""What is installed, whether it fits together, and what mends it.

This file must run where anything else of the project does not: it imports nothing but the standard
library when it is loaded, and looks at every package behind a guard.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import platform
import re
import shutil
import sys
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Requirement:
    """A package the project runs on.

    Attributes:
        name: Its name in the report and on the package index.
        distributions: Names under which it may be installed, the usual one first.
        module: What is imported to see whether it works.
        lowest: The oldest version that is supported; None for any.
        below: The first version that is refused, by the package's partners or by this project;
            None if none is.
        tested: The newest series that the project has been run with; None for all that are not
            refused.
        cost: What does not work without it.
        remedy: The command that installs it.
        needed: Whether the project runs without it.
    """

    name: str
    distributions: tuple[str, ...]
    module: str
    lowest: tuple[int, ...] | None
    below: tuple[int, ...] | None
    tested: tuple[int, ...] | None
    cost: str
    remedy: str
    needed: bool = True

    @property
    def supported(self) -> str:
        """The supported range in words."""
        parts = []
        if self.lowest:
            parts.append(f'from {_dotted(self.lowest)}')
        if self.tested:
            parts.append(f'tested to {_dotted(self.tested)}')
        if self.below:
            parts.append(f'below {_dotted(self.below)}')
        return ', '.join(parts) or 'any'


_MMCV = "pip install -U openmim && mim install 'mmcv>=2.0.0,<2.2.0'"
_MMCV_COMPILED = (
    "pip install 'setuptools<81' wheel ninja psutil && MMCV_WITH_OPS=1 pip install "
    '--no-build-isolation --no-cache-dir --force-reinstall --no-deps --no-binary mmcv mmcv==2.1.0'
)
_MMCV_WITH_CUDA = _MMCV_COMPILED.replace('MMCV_WITH_OPS=1', 'MMCV_WITH_OPS=1 FORCE_CUDA=1')
_SPCONV = 'pip install spconv-cu120  # the one for your CUDA version; on a CPU: pip install spconv'

# The ranges of requirements/mminstall.txt and requirements/runtime.txt, which a test compares.
REQUIREMENTS = (
    Requirement(
        'torch',
        ('torch',),
        'torch',
        (2, 0),
        None,
        (2, 13),
        'Nothing runs.',
        "pip install 'torch>=2.0'  # the build for your CUDA version: see PyTorch's install page",
    ),
    Requirement(
        'mmengine',
        ('mmengine', 'mmengine-lite'),
        'mmengine',
        (0, 8),
        (1, 0),
        (0, 10),
        'Nothing runs: configs, registries and training are those of mmengine.',
        "pip install 'mmengine>=0.8.0,<1.0.0'",
    ),
    Requirement(
        'mmcv',
        ('mmcv', 'mmcv-lite', 'mmcv-full'),
        'mmcv',
        (2, 0),
        (2, 2),
        None,
        'Nothing runs: mmdet and mmdet3d import it, and refuse mmcv 2.2.',
        _MMCV,
    ),
    Requirement(
        'mmdet',
        ('mmdet',),
        'mmdet',
        (3, 0),
        (3, 4),
        None,
        'Nothing runs: mmdet3d imports it.',
        "pip install 'mmdet>=3.0.0,<3.4.0'",
    ),
    Requirement(
        'mmdet3d',
        ('mmdet3d',),
        'mmdet3d',
        (1, 1),
        (1, 5),
        None,
        'Nothing runs: the detectors and data sets are built on it (1.0 has other info files).',
        "pip install 'mmdet3d>=1.1.0,<1.5.0'",
    ),
    Requirement(
        'numpy',
        ('numpy',),
        'numpy',
        (1, 22),
        (2,),
        None,
        'nuscenes-devkit and the compiled mmcv are made for NumPy 1: importing or scoring fails.',
        "pip install 'numpy>=1.22,<2'",
    ),
    Requirement(
        'nuscenes-devkit',
        ('nuscenes-devkit',),
        'nuscenes',
        (1, 1, 10),
        None,
        None,
        'mmdet3d.datasets cannot be imported, and nothing be scored.',
        "pip install 'nuscenes-devkit>=1.1.10'",
    ),
    Requirement(
        'spconv',
        ('spconv', *(f'spconv-cu{cuda}' for cuda in (126, 124, 121, 120, 118, 117, 116, 114, 113))),
        'spconv.pytorch',
        (2, 3, 6),
        (2, 4),
        None,
        'The voxel teacher (objectdgcnn_voxel01) needs it wherever mmcv has no CUDA operators; the '
        'pillar teacher and all students do without.',
        _SPCONV,
        needed=False,
    ),
)
# Of these it only matters that they are there: distribution and module.
SMALL_PACKAGES = (
    ('scipy', 'scipy'),
    ('matplotlib', 'matplotlib'),
    ('pyquaternion', 'pyquaternion'),
    ('Pillow', 'PIL'),
    ('rich', 'rich'),
    ('tqdm', 'tqdm'),
    ('tensorboard', 'tensorboard'),
    ('psutil', 'psutil'),
    ('av', 'av'),
    ('h5py', 'h5py'),
)
_LOWEST_PYTHON = (3, 8)
# mmengine prints configs with it: releases before the first of these fail from the second on.
_MMENGINE_FOR_NEW_YAPF, _NEW_YAPF = (0, 8, 5), (0, 40, 2)
# What older releases of a package refuse, although newer ones take it: the series they belong to,
# and of each partner the first version they do not import with.
_REFUSALS = {
    'mmdet3d': {
        (1, 1): {'mmcv': (2, 1), 'mmdet': (3, 1)},
        (1, 2): {'mmcv': (2, 1), 'mmdet': (3, 2)},
        (1, 3): {'mmdet': (3, 3)},
    },
    'mmdet': {(3, 0): {'mmcv': (2, 1)}, (3, 1): {'mmcv': (2, 1)}},
}


@dataclass(frozen=True)
class Environment:
    """What was found.

    Attributes:
        python: Version of the interpreter.
        versions: Version of every requirement and small package that is installed, and of yapf,
            by name.
        distributions: Under which name a requirement is installed, where that is another.
        failures: Why the import of an installed package failed, by name.
        cuda_build: The CUDA version torch was built for; None for a CPU build or no torch.
        gpus: Names of the GPUs that torch can use.
        has_gpu_driver: Whether the machine has an NVIDIA driver.
        has_operators: Whether mmcv has compiled operators that can be loaded.
        operators_failure: Why they cannot be loaded, in the words of the import.
        operators_cuda: The CUDA version mmcv's operators were compiled with; None without CUDA.
    """

    python: str
    versions: Mapping[str, str] = field(default_factory=dict)
    distributions: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    cuda_build: str | None = None
    gpus: Sequence[str] = ()
    has_gpu_driver: bool = False
    has_operators: bool = False
    operators_failure: str | None = None
    operators_cuda: str | None = None


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: What was looked at.
        found: What is there.
        supported: What should be there.
        verdict: ``'fits'``; ``'remark'`` where something works less well, or untested; ``'wrong'``
            where something needed is missing or does not fit.
        cost: What that costs; empty if it fits.
        remedy: What mends it; empty if it fits.
    """

    name: str
    found: str
    supported: str
    verdict: str = 'fits'
    cost: str = ''
    remedy: str = ''


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution; None if there is none of this name."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def look_around(
    look_up: Callable[[str], str | None] = installed_version,
    load: Callable[[str], Any] = importlib.import_module,
) -> Environment:
    """Find out what is installed and whether it can be imported.

    Args:
        look_up: Gives the version of a distribution, or None.
        load: Imports a module by name.

    Returns:
        What was found. Nothing that an import raises gets out of here.
    """
    versions, distributions, failures = {}, {}, {}
    for requirement in REQUIREMENTS:
        for distribution in requirement.distributions:
            version = look_up(distribution)
            if version is not None:
                versions[requirement.name] = version
                distributions[requirement.name] = distribution
                failure = _failure_of(requirement.module, load)
                if failure:
                    failures[requirement.name] = failure
                break
    for distribution, module in (*SMALL_PACKAGES, ('yapf', 'yapf')):
        version = look_up(distribution)
        if version is not None:
            versions[distribution] = version
            failure = _failure_of(module, load)
            if failure:
                failures[distribution] = failure
    cuda_build, gpus = None, ()
    if 'torch' in versions and 'torch' not in failures:
        cuda_build, gpus = _look_at_torch(load('torch'))
    operators: dict[str, Any] = {}
    if 'mmcv' in versions and 'mmcv' not in failures:
        operators = _look_at_operators(load)
    return Environment(
        python=platform.python_version(),
        versions=versions,
        distributions=distributions,
        failures=failures,
        cuda_build=cuda_build,
        gpus=gpus,
        has_gpu_driver=shutil.which('nvidia-smi') is not None,
        **operators,
    )


def _failure_of(module: str, load: Callable[[str], Any]) -> str | None:
    """Why a module cannot be imported; packages raise errors of every kind then."""
    try:
        load(module)
    except Exception as error:
        return f'{type(error).__name__}: {_first_line(error)}'
    return None


def _look_at_torch(torch: Any) -> tuple[str | None, tuple[str, ...]]:
    if not torch.cuda.is_available():
        return torch.version.cuda, ()
    count = torch.cuda.device_count()
    return torch.version.cuda, tuple(torch.cuda.get_device_name(index) for index in range(count))


def _look_at_operators(load: Callable[[str], Any]) -> dict[str, Any]:
    try:
        compiled_with = load('mmcv._ext').get_compiling_cuda_version()
    except Exception as error:
        return {'operators_failure': _first_line(error)}
    has_cuda = compiled_with != 'not available'
    return {'has_operators': True, 'operators_cuda': compiled_with if has_cuda else None}


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), '')


def assess(environment: Environment) -> list[Finding]:
    """Compare what was found with what is supported.

    Args:
        environment: What was found.

    Returns:
        One finding for each thing looked at, in the order in which they should be mended.
    """
    findings = [_assess_python(environment.python)]
    for requirement in REQUIREMENTS:
        findings.append(_assess_requirement(requirement, environment))
        if requirement.name == 'torch' and 'torch' in environment.versions:
            findings.append(_assess_gpu(environment))
        if requirement.name == 'mmengine':
            findings += _assess_yapf(environment)
        if requirement.name == 'mmcv' and 'mmcv' in environment.versions:
            findings.append(_assess_operators(environment))
    findings.append(_assess_small_packages(environment))
    return findings


def _assess_python(found: str) -> Finding:
    supported = f'from {_dotted(_LOWEST_PYTHON)}'
    if parse_version(found) >= _LOWEST_PYTHON:
        return Finding('Python', found, supported)
    return Finding(
        'Python',
        found,
        supported,
        'wrong',
        'The package cannot be imported.',
        'bash tools/setup.sh  # makes an environment with Python 3.11',
    )


def _assess_requirement(requirement: Requirement, environment: Environment) -> Finding:
    """Whether a package is there, can be imported, and has a version in the range."""
    name, supported = requirement.name, requirement.supported
    bad = 'wrong' if requirement.needed else 'remark'
    found = environment.versions.get(name)
    if found is None:
        if not requirement.needed and environment.operators_cuda:
            return Finding(name, 'not installed', supported)
        return Finding(name, 'not installed', supported, bad, requirement.cost, requirement.remedy)
    version = parse_version(found)
    distribution = environment.distributions.get(name, name)
    shown = found if distribution == name else f'{found} ({distribution})'
    if requirement.lowest is not None and version < requirement.lowest:
        cost = f'Version {found} is too old. {requirement.cost}'
        return Finding(name, shown, supported, bad, cost, requirement.remedy)
    if requirement.below is not None and version >= requirement.below:
        cost = f'Version {found} is too new. {requirement.cost}'
        return Finding(name, shown, supported, bad, cost, requirement.remedy)
    for partner, below in _refusing_partners(name, environment):
        if version >= below:
            limit = _dotted(below)
            return Finding(
                name,
                shown,
                f'below {limit}, for {partner}',
                bad,
                f'{partner} refuses {name} {found}. {requirement.cost}',
                f"mim install '{name}>={_dotted(requirement.lowest)},<{limit}'  # or newer mmdet "
                'and mmdet3d instead',
            )
    if name in environment.failures:
        cost = f'It cannot be imported ({environment.failures[name]}). {requirement.cost}'
        # What an import complains about is as often another package, and that has its own line.
        remedy = f'{requirement.remedy}  # after mending what the message names'
        return Finding(name, shown, supported, bad, cost, remedy)
    if requirement.tested is not None and version[: len(requirement.tested)] > requirement.tested:
        return Finding(
            name,
            shown,
            supported,
            'remark',
            'It is newer than what the tests have been run with; most likely it works.',
            'python -m pytest -m "not slow"  # whether the tests pass with it',
        )
    return Finding(name, shown, supported)


def _refusing_partners(
    name: str, environment: Environment
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Which installed packages limit the version of another one, and where."""
    for partner, refusals in _REFUSALS.items():
        found = environment.versions.get(partner)
        below = refusals.get(parse_version(found)[:2], {}).get(name) if found else None
        if below is not None:
            yield f'{partner} {found}', below


def _assess_gpu(environment: Environment) -> Finding:
    """What torch computes on."""
    name, wanted = 'GPU', "one that torch's CUDA build can use"
    built = f'torch for CUDA {environment.cuda_build}' if environment.cuda_build else 'CPU torch'
    if environment.gpus:
        counted = {gpu: list(environment.gpus).count(gpu) for gpu in environment.gpus}
        gpus = ', '.join(f'{count} x {gpu}' for gpu, count in counted.items())
        return Finding(name, f'{gpus}; {built}', wanted)
    slow = (
        'Everything runs on the CPU. That does for the quickstart and the tests, not for training '
        'on nuScenes: the README, "Without a GPU", has what a full-size step takes.'
    )
    if environment.cuda_build:
        remedy = (
            'nvidia-smi  # if there is an NVIDIA GPU: its driver is missing or older than this '
            'CUDA version, or CUDA_VISIBLE_DEVICES is empty'
        )
        return Finding(name, f'none that can be used; {built}', wanted, 'remark', slow, remedy)
    if environment.has_gpu_driver:
        remedy = (
            "pip install torch  # the build for your CUDA version; then mmcv's operators for it"
        )
        return Finding(
            name,
            f'an NVIDIA driver, but {built}',
            wanted,
            'remark',
            f'{slow} The GPU idles.',
            remedy,
        )
    return Finding(
        name, f'none; {built}', wanted, 'remark', slow, 'none; a machine with an NVIDIA GPU'
    )


def _assess_yapf(environment: Environment) -> list[Finding]:
    """One finding where mmengine is too old for the yapf that is there."""
    mmengine, yapf = (environment.versions.get(name) for name in ('mmengine', 'yapf'))
    if mmengine is None or yapf is None:
        return []
    if parse_version(mmengine) >= _MMENGINE_FOR_NEW_YAPF or parse_version(yapf) < _NEW_YAPF:
        return []
    return [
        Finding(
            'yapf',
            yapf,
            f'below {_dotted(_NEW_YAPF)}, for mmengine {mmengine}',
            'wrong',
            'Every training fails at its start, where mmengine prints the config ("FormatCode() '
            'got an unexpected keyword argument").',
            f"pip install 'yapf<{_dotted(_NEW_YAPF)}'",
        )
    ]


def _assess_operators(environment: Environment) -> Finding:
    """Whether mmcv's compiled operators fit torch and the GPU."""
    name, wanted = 'mmcv operators', 'compiled for this torch'
    if environment.gpus:
        wanted += ', with CUDA'
    compiling = _MMCV_WITH_CUDA if environment.gpus else _MMCV_COMPILED
    if not environment.has_operators:
        reason = environment.operators_failure or 'mmcv itself cannot be imported'
        return Finding(
            name,
            'none that can be loaded',
            wanted,
            'wrong',
            f'mmdet3d cannot be imported, so nothing runs ({reason}). Either this is mmcv-lite, '
            'which has none, or they were compiled for another torch.',
            f'pip uninstall -y mmcv mmcv-lite mmcv-full; {_MMCV}\n'
            f'    where nobody publishes compiled ones for your torch (2.4 and later):\n    '
            f'{compiling}',
        )
    compiled = environment.operators_cuda
    found = f'compiled with CUDA {compiled}' if compiled else 'compiled, CPU only'
    if not environment.gpus:
        return Finding(name, found, wanted)
    if compiled is None:
        return Finding(
            name,
            found,
            wanted,
            'wrong',
            'On the GPU, voxelization, sparse and deformable convolutions raise an error, so the '
            "teachers and the student with deformable convolutions do not run. The other students' "
            'deformable attention falls back to PyTorch operators, slower by a factor that depends '
            'on the GPU and the grid; `python tools/benchmark_deformable_attention.py --device '
            'cuda` times it.',
            f"{compiling}  # needs nvcc of torch's CUDA version",
        )
    if (
        environment.cuda_build
        and parse_version(compiled)[:1] != parse_version(environment.cuda_build)[:1]
    ):
        return Finding(
            name,
            found,
            f'{wanted} {environment.cuda_build}',
            'remark',
            'torch brings another CUDA version. The operators may fail as soon as one is called.',
            f'{compiling}  # needs nvcc of CUDA {environment.cuda_build}',
        )
    return Finding(name, found, wanted)


def _assess_small_packages(environment: Environment) -> Finding:
    names = [distribution for distribution, _ in SMALL_PACKAGES]
    missing = [name for name in names if name not in environment.versions]
    broken = [name for name in names if name in environment.failures]
    if not missing and not broken:
        return Finding('other packages', f'all {len(names)}', ', '.join(names))
    parts = []
    if missing:
        parts.append(f'missing: {", ".join(missing)}')
    parts += [f'{name}: {environment.failures[name]}' for name in broken]
    return Finding(
        'other packages',
        '; '.join(parts),
        ', '.join(names),
        'wrong',
        'Importing the package, or the tool that uses one of them, fails.',
        f'pip install --upgrade {" ".join([*missing, *broken])}',
    )


def fits(findings: Sequence[Finding]) -> bool:
    """Whether all that is needed is there and fits."""
    return all(finding.verdict != 'wrong' for finding in findings)


def parse_version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version, as (2, 0, 1) of ``'2.0.1+cu118'``."""
    numbers = re.match(r'\d+(\.\d+)*', text)
    return tuple(int(number) for number in numbers.group().split('.')) if numbers else ()


def _dotted(version: Sequence[int]) -> str:
    # "2" alone reads like a count.
    return '.'.join(map(str, version)) if len(version) > 1 else f'{version[0]}.0'


def print_report(findings: Sequence[Finding]) -> None:
    """Print a table, and what is to be mended below it; without rich, as plain lines.

    Args:
        findings: What :func:`assess` returned.
    """
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        _print_plain_table(findings)
    else:
        colours = {'fits': 'green', 'remark': 'yellow', 'wrong': 'bold red'}
        table = Table('', 'found', 'supported', '', box=SIMPLE_HEAD)
        for finding in findings:
            colour = colours[finding.verdict]
            verdict = f'[{colour}]{finding.verdict}[/]'
            table.add_row(finding.name, _plain(finding.found), _plain(finding.supported), verdict)
        Console().print(table)
    # Commands are printed by themselves, unbroken, so that they can be copied.
    for finding in findings:
        if finding.verdict != 'fits':
            print(f'{finding.name} ({finding.verdict}): {finding.cost}\n    {finding.remedy}\n')
    if fits(findings):
        print('All that is needed is there and fits.')
    else:
        print('Something needed is missing or does not fit: mend it from the top of the list down.')


def _plain(text: str) -> str:
    return text.replace('[', '\\[')


def _print_plain_table(findings: Sequence[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f'{finding.verdict:<6}  {finding.name:<{width}}  {finding.found}', end='')
        print(f'  (supported: {finding.supported})')
    print()


def main(
    arguments: Sequence[str] | None = None,
    look_up: Callable[[str], str | None] = installed_version,
    load: Callable[[str], Any] = importlib.import_module,
) -> int:
    """Report on the environment.

    Args:
        arguments: The words of the command line; those of the process by default.
        look_up: See :func:`look_around`.
        load: See :func:`look_around`.

    Returns:
        The exit status: 0 if all that is needed fits, otherwise 1.
    """
    parser = argparse.ArgumentParser(
        description='Say what is installed, whether it fits together, and what mends it.'
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    options = parser.parse_args(arguments)
    findings = assess(look_around(look_up, load))
    if options.json:
        pieces = [asdict(finding) for finding in findings]
        json.dump({'fits': fits(findings), 'pieces': pieces}, sys.stdout, indent=2)
        print()
    else:
        print_report(findings)
    return 0 if fits(findings) else 1
