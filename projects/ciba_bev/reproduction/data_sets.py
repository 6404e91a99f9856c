"""Where each data set comes from, and the synthetic data sets of the demo.

The synthetic data sets have the format of the real ones. They have nothing to do with the Gaussian
data of the paper's synthetic experiments (``synthetic_figures.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from ..engine.step_runner import Step
from ..files import make_folder


@dataclass(frozen=True)
class DataSet:
    """How to get a data set.

    Attributes:
        file: A file of the prepared data set, relative to the project's folder.
        remedy: What to download, where to put it, how to prepare it, and its size on disk.
        synthetic_options: Arguments of tools/make_synthetic_data.py for the demo, without folder.
        demo: Overrides of its configs that make a short training on the synthetic data set.
    """

    file: str
    remedy: str
    synthetic_options: tuple[str, ...] = ()
    demo: tuple[str, ...] = ()


STAGES = ('train', 'val', 'test')
# Small data are read faster than workers are started.
_WITHOUT_WORKERS = tuple(
    f'{stage}_dataloader.{option}'
    for stage in STAGES
    for option in ('num_workers=0', 'persistent_workers=False')
)
# By the prefix of their configs.
DATA_SETS = {
    'ravdess': DataSet(
        'data/ravdess/data_file/spa_dl.csv',
        'Download the speech clips of RAVDESS (Video_Speech_Actor_01.zip to _24.zip from '
        'https://zenodo.org/records/1188976, about 13 GB, 12 GB unpacked) and prepare them with\n'
        'python tools/prepare_ravdess.py --clips CLIPS --out data/ravdess\n'
        'or put the prepared files there (aud_features, vid_features, data_file).',
        ('--prepared',),
        (
            'train_cfg.max_epochs=40',
            'train_cfg.val_interval=1',
            'default_hooks.checkpoint.interval=40',
            'train_dataloader.batch_size=32',
            'model.bottleneck_sizes=[2,8,64,128]',
            *_WITHOUT_WORKERS,
            *(f'{stage}_dataloader.dataset.image_size=[28,56]' for stage in STAGES),
            # Drawn faces and chords need an eighth of the width that real ones are given.
            *(
                f'model.{part}network.{width}'
                for part in ('', 'student.')
                for width in ('channels=[8,16,32]', 'feature_size=128')
            ),
            'model.bottleneck.in_channels=128',
            'model.bottleneck.out_channels=128',
        ),
    ),
    'mm_imdb': DataSet(
        'data/mm_imdb/multimodal_imdb.hdf5',
        'Download multimodal_imdb.hdf5 of MM-IMDB (about 10 GB, see '
        'https://github.com/johnarevalo/gmu-mmimdb) to data/mm_imdb/.',
        (),
        ('train_cfg.max_epochs=20', 'default_hooks.checkpoint.interval=20'),
    ),
    'vgg_sound': DataSet(
        'data/vgg_sound/train.csv',
        'Download the clips of VGG-Sound (https://www.robots.ox.ac.uk/~vgg/data/vggsound/; the '
        '61,195 of the 100 classes are 60 to 120 GB) and the split files of the 100 classes '
        '(https://github.com/weiguoPian/AV-CIL_ICCV2023), and prepare them (22 GB) with\n'
        'python tools/prepare_vgg_sound.py CLIPS --splits SPLITS --out data/vgg_sound\n'
        'See docs/data.md.',
        ('--prepared',),
        (
            'train_cfg.max_epochs=12',
            'train_cfg.val_interval=1',
            'default_hooks.checkpoint.interval=12',
            'train_dataloader.batch_size=16',
            'model.bottleneck_sizes=[4,16,64]',
            *_WITHOUT_WORKERS,
            *(f'{stage}_dataloader.dataset.audio_size=[64,32]' for stage in STAGES),
            *(f'{stage}_dataloader.dataset.frame_size=[32,64]' for stage in STAGES),
            # A quarter as wide, and the deeper ResNets as wide as the others.
            'model.network.feature_size=128',
            'model.network.narrowed_size=128',
            'model.student.network.feature_size=128',
            'model.bottleneck.in_channels=128',
            'model.bottleneck.out_channels=128',
        ),
    ),
}
# Of all other configs but those of the synthetic experiments, which draw their data themselves.
NUSCENES = DataSet(
    'data/nuscenes/nuscenes_infos_train.pkl',
    'Download nuScenes v1.0-trainval (about 300 GB unpacked) to data/nuscenes and run\n'
    'python tools/create_data.py --root-path data/nuscenes --version v1.0-trainval\n'
    'See docs/data.md.',
)


def find_missing_data(root: Path, configs: Sequence[str | None]) -> list[str]:
    """List the data sets that configs read and that are missing.

    Args:
        root: The project's folder.
        configs: Paths of configs; None for steps without one.

    Returns:
        For each missing data set, which configs need it and how to get it.
    """
    readers: dict[DataSet, list[str]] = {}
    for name in sorted({Path(config).stem for config in configs if config}):
        if not name.startswith('synthetic'):
            found = (data for prefix, data in DATA_SETS.items() if name.startswith(prefix))
            readers.setdefault(next(found, NUSCENES), []).append(name)
    messages = []
    for data, names in readers.items():
        if not (root / data.file).is_file():
            others = f' and {len(names) - 1} more need' if len(names) > 1 else ' needs'
            messages.append(f'{names[0]}{others} {data.file}, which is missing. {data.remedy}')
    return messages


def demo_options() -> dict[str, list[str]]:
    """Return overrides for short trainings on synthetic data, by the prefix of the configs."""
    return {prefix: list(data.demo) for prefix, data in DATA_SETS.items()}


def demo_steps(root: Path) -> dict[str, Step]:
    """Return the steps that make the synthetic data sets, by the prefix of the configs.

    Args:
        root: The folder whose ``data`` they are written to.
    """
    tool = 'tools/make_synthetic_data.py'
    return {
        prefix: Step(
            f'synthetic_data_{prefix}',
            f'Make synthetic {prefix} data',
            [tool, prefix, *data.synthetic_options, '--out', f'data/{prefix}'],
            [root / data.file],
        )
        for prefix, data in DATA_SETS.items()
    }


def make_demo_root(root: Path, folder: Path) -> Path:
    """Make a folder laid out like the project, for synthetic data in its ``data``.

    Args:
        root: The project's folder.
        folder: The folder to make.

    Returns:
        The folder, with links to the project's ``configs`` and ``tools``.
    """
    make_folder(folder)
    for name in ('configs', 'tools'):
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(root / name, target_is_directory=True)
    return folder
