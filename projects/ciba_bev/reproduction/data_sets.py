"""Where each data set comes from, what is there, and the stand-ins of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from ..engine.step_runner import Step
from ..errors import CibaError
from ..files import make_folder


@dataclass(frozen=True)
class DataSet:
    """What a user needs to know to get a data set.

    Attributes:
        prefix: Of the names of its configs.
        file: A file that is there once it is prepared, in the project's folder.
        remedy: What to download, where it goes, how it is prepared, and what it costs in disk.
        stand_in: Files that its stand-in consists of at least; empty if it has none.
        stand_in_command: What makes the stand-in, for the Python interpreter.
        demo: Overrides of its configs that make a short training on the stand-in.
    """

    prefix: str
    file: str
    remedy: str
    stand_in: tuple[str, ...] = ()
    stand_in_command: tuple[str, ...] = ()
    demo: tuple[str, ...] = ()

    @property
    def has_stand_in(self) -> bool:
        """Whether the project can make one."""
        return bool(self.synthetic_data)

    def stand_in_step(self, root: Path) -> Step:
        """The step that makes the stand-in.

        Args:
            root: The folder whose ``data`` it goes to.
        """
        return Step(
            f'stand_in_{self.prefix}',
            f'Make a stand-in for {self.prefix}',
            list(self.stand_in_command),
            [root / file for file in self.synthetic_data],
        )


_STAGES = ('train', 'val', 'test')
# Small data are read faster than workers are started.
_IN_THIS_PROCESS = tuple(
    f'{stage}_dataloader.{option}'
    for stage in _STAGES
    for option in ('num_workers=0', 'persistent_workers=False')
)
DATA_SETS = {
    'ravdess': DataSet(
        'ravdess',
        'data/ravdess/data_file/spa_dl.csv',
        'Download the speech clips of RAVDESS (Video_Speech_Actor_01.zip to _24.zip from '
        'https://zenodo.org/records/1188976, about 13 GB, 12 GB unpacked) and prepare them with\n'
        'python tools/prepare_ravdess.py --clips CLIPS --out data/ravdess\n'
        'or put the prepared files there (aud_features, vid_features, data_file).',
        ('data/ravdess/data_file/spa_dl.csv',),
        ('tools/make_synthetic_data.py', 'ravdess', '--prepared', '--out', 'data/ravdess'),
        (
            'train_cfg.max_epochs=40',
            'train_cfg.val_interval=1',
            'default_hooks.checkpoint.interval=40',
            'train_dataloader.batch_size=32',
            'model.bottleneck_sizes=[2,8,64,128]',
            *_IN_THIS_PROCESS,
            *(f'{stage}_dataloader.dataset.image_size=[28,56]' for stage in _STAGES),
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
        'mm_imdb',
        'data/mm_imdb/multimodal_imdb.hdf5',
        'Download multimodal_imdb.hdf5 of MM-IMDB (about 10 GB, see '
        'https://github.com/johnarevalo/gmu-mmimdb) to data/mm_imdb/.',
        ('data/mm_imdb/multimodal_imdb.hdf5',),
        ('tools/make_synthetic_data.py', 'mm_imdb', '--out', 'data/mm_imdb'),
        ('train_cfg.max_epochs=20', 'default_hooks.checkpoint.interval=20'),
    ),
    'vgg_sound': DataSet(
        'vgg_sound',
        'data/vgg_sound/train.csv',
        'Download the clips of VGG-Sound (https://www.robots.ox.ac.uk/~vgg/data/vggsound/; the '
        '61,195 of the 100 classes are 60 to 120 GB) and the split files of the 100 classes '
        '(https://github.com/weiguoPian/AV-CIL_ICCV2023), and prepare them (22 GB) with\n'
        'python tools/prepare_vgg_sound.py CLIPS --splits SPLITS --out data/vgg_sound\n'
        'See data/README.md.',
        ('data/vgg_sound/test.csv',),
        ('tools/make_synthetic_data.py', 'vgg_sound', '--prepared', '--out', 'data/vgg_sound'),
        (
            'train_cfg.max_epochs=12',
            'train_cfg.val_interval=1',
            'default_hooks.checkpoint.interval=12',
            'train_dataloader.batch_size=16',
            'model.bottleneck_sizes=[4,16,64]',
            *_IN_THIS_PROCESS,
            *(f'{stage}_dataloader.dataset.audio_size=[64,32]' for stage in _STAGES),
            *(f'{stage}_dataloader.dataset.frame_size=[32,64]' for stage in _STAGES),
            # A quarter as wide, and the deeper ResNets as wide as the others.
            'model.network.feature_size=128',
            'model.network.narrowed_size=128',
            'model.student.network.feature_size=128',
            'model.bottleneck.in_channels=128',
            'model.bottleneck.out_channels=128',
        ),
    ),
}
NUSCENES = DataSet(
    'nuscenes',
    'data/nuscenes/nuscenes_infos_train.pkl',
    'Download nuScenes v1.0-trainval (about 300 GB unpacked) to data/nuscenes and run\n'
    'python tools/create_data.py --root-path data/nuscenes --version v1.0-trainval\n'
    'See data/README.md.',
)


def find_missing_data(root: Path, configs: Sequence[str | None]) -> list[str]:
    """Look for the data that configs read.

    Args:
        root: The project's folder.
        configs: Paths of configs; None for steps without one.

    Returns:
        For each data set that is not there, which configs need it and how to get it.
    """
    waiting: dict[str, list[str]] = {}
    for name in sorted({Path(config).stem for config in configs if config}):
        if name.startswith('synthetic'):
            continue
        key = next((key for key in DATA_SETS if name.startswith(key)), NUSCENES.prefix)
        waiting.setdefault(key, []).append(name)
    messages = []
    for key, names in waiting.items():
        data = DATA_SETS.get(key, NUSCENES)
        if (root / data.file).is_file():
            continue
        others = f' and {len(names) - 1} more need' if len(names) > 1 else ' needs'
        messages.append(f'{names[0]}{others} {data.file}, which is not there. {data.remedy}')
    return messages


def require_data(root: Path, configs: Sequence[str | None]) -> None:
    """Refuse to begin without the data that the configs read.

    Args:
        root: The project's folder.
        configs: Paths of configs; None for steps without one.

    Raises:
        CibaError: Data are missing; the message says how to get them.
    """
    messages = find_missing_data(root, configs)
    if messages:
        raise CibaError('\n'.join(messages))


def demo_options() -> dict[str, list[str]]:
    """Overrides of the configs, by prefix, that make short trainings on stand-ins."""
    return {name: list(data.demo) for name, data in DATA_SETS.items() if data.has_stand_in}


def make_demo_root(root: Path, folder: Path) -> Path:
    """A folder laid out like the project, whose ``data`` are the stand-ins.

    Args:
        root: The project's folder.
        folder: Where it goes.

    Returns:
        The folder, with ``configs`` and ``tools`` that are the project's.
    """
    make_folder(folder)
    for name in ('configs', 'tools'):
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(root / name, target_is_directory=True)
    return folder
