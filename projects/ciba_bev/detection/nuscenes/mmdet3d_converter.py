"""Run mmdet3d's nuScenes converter.

It is one of mmdet3d's tools, not a part of its package: a wheel has it in ``mmdet3d/.mim/tools``, a
source checkout in ``tools`` next to the package.
"""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Iterator, Sequence

import mmdet3d

from .data_checks import DataError
from .tables import explained_failures


def convert(
    root_path: Path,
    version: str,
    max_sweeps: int,
    work_folder: Path,
    tag: str,
    splits: Sequence[str],
) -> dict[str, Path]:
    """Run mmdet3d's converter.

    Args:
        root_path: The nuScenes root.
        version: nuScenes version, such as ``v1.0-trainval``.
        max_sweeps: Maximum number of past LiDAR sweeps of a sample.
        work_folder: An existing, empty folder for intermediate and finished files.
        tag: Prefix of the info files' names.
        splits: The splits of the version.

    Returns:
        The finished info file of each split.

    Raises:
        DataError: The converter is not installed, or cannot convert these data.
    """
    converter = _load_tool('nuscenes_converter')
    updater = _load_tool('update_infos_to_v2')
    # The updater uses the devkit only to project boxes into the images for monocular detectors,
    # which takes most of its time and is not needed. This changes only our instance of its module.
    updater.NuScenes = lambda **_: None
    updater.generate_nuscenes_camera_instances = lambda *_: {}

    intermediate, finished = work_folder / 'intermediate', work_folder / 'finished'
    intermediate.mkdir()
    finished.mkdir()
    info_files = {}
    with explained_failures(root_path, version), _progress_line_ended():
        # The converter joins root and prefix, which must be absolute to replace the root.
        converter.create_nuscenes_infos(
            str(root_path), str(intermediate.absolute() / tag), version, max_sweeps
        )
        for split in splits:
            name = f'{tag}_infos_{split}.pkl'
            updater.update_pkl_infos('nuscenes', str(finished), str(intermediate / name))
            info_files[split] = finished / name
    return info_files


@contextlib.contextmanager
def _progress_line_ended() -> Iterator[None]:
    """Print a new line after the progress bar, before an error message."""
    try:
        yield
    except BaseException:
        print(flush=True)
        raise


def _load_tool(name: str) -> ModuleType:
    package = Path(mmdet3d.__file__).parent
    candidates = [
        folder / 'dataset_converters' / f'{name}.py'
        for folder in (package / '.mim' / 'tools', package.parent / 'tools')
    ]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise DataError(
            f'mmdet3d {mmdet3d.__version__}: its converter {name}.py is neither at '
            f'{candidates[0]} nor at {candidates[1]}. Install mmdet3d from its wheel '
            '(mim install mmdet3d) or from a source checkout (pip install -e .).'
        )
    spec = importlib.util.spec_from_file_location(f'_ciba_bev_{name}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
