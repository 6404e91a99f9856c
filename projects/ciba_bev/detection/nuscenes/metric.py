"""The nuScenes detection metric, with result files for the test server."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

import numpy as np
from mmdet3d.evaluation.metrics import NuScenesMetric
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from nuscenes import NuScenes
from nuscenes.eval.common.loaders import load_prediction
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import DetectionBox, DetectionConfig, DetectionMetrics
from nuscenes.eval.detection.evaluate import NuScenesEval
from nuscenes.utils.splits import create_splits_scenes

from ...errors import CibaError, ConfigError
from ...files import write_error, write_file
from ...registry import METRICS
from .info_files import load_info_file

# Metadata that the test server requires.
META_FLAGS = ('use_camera', 'use_lidar', 'use_radar', 'use_map', 'use_external')
EVALUATED_SPLITS = {'v1.0-trainval': 'val', 'v1.0-mini': 'mini_val', 'v1.0-test': 'test'}
MAX_BOXES = 500
# Errors that nuScenes does not define for these classes.
_UNDEFINED_ERRORS = {
    'traffic_cone': ('attr_err', 'vel_err', 'orient_err'),
    'barrier': ('attr_err', 'vel_err'),
}
_ERROR_NAMES = dict(zip(TP_METRICS, ('mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE')))


@METRICS.register_module()
class NuScenesDetectionMetric(NuScenesMetric):
    """mmdet3d's nuScenes metric, with support for the test server and for failed scoring.

    Names and values of the scores are those of mmdet3d. The differences are:

    - the result file is kept if scoring fails, and the error names it;
    - if there are no detections at all, the scores are 0;
    - with ``format_only`` the result file is accepted by the nuScenes test server;
    - ``v1.0-test``, which has no annotations, is refused before the first frame unless
      ``format_only`` is set.

    Args:
        jsonfile_prefix: Folder for the result file ``pred_instances_3d/results_nusc.json``; None
            for a temporary one, which is removed after scoring.
        format_only: Whether to write the result file without computing scores.
        modality: ``use_camera``, ``use_lidar``, ``use_radar``, ``use_map`` and ``use_external``,
            the inputs of the detector, for the test server. They are False by default.
        **kwargs: See :class:`mmdet3d.evaluation.NuScenesMetric`: ``data_root``, ``ann_file``, ...

    Raises:
        ConfigError: ``format_only`` is set without a folder.
    """

    def __init__(
        self,
        jsonfile_prefix: str | None = None,
        format_only: bool = False,
        modality: Mapping[str, bool] | None = None,
        **kwargs: Any,
    ) -> None:
        if format_only and jsonfile_prefix is None:
            raise ConfigError(
                'format_only=True only writes a result file, and needs its folder, '
                'jsonfile_prefix (tools/test.py --format-only sets it).'
            )
        super().__init__(jsonfile_prefix=jsonfile_prefix, modality=modality, **kwargs)
        self.format_only = format_only
        self.modality = {flag: bool(self.modality.get(flag, False)) for flag in META_FLAGS}

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        """Set class names and nuScenes version of the data set, before its first frame.

        Args:
            dataset_meta: Metadata of the data set.

        Raises:
            ConfigError: Frames of this version cannot be scored.
        """
        version = dataset_meta.get('version')
        if not self.format_only and version == 'v1.0-test':
            raise ConfigError(
                f'{self.ann_file}: the annotations of v1.0-test are not public, so there is '
                'nothing to score on. Write the file for the test server instead: '
                'tools/test.py CONFIG CHECKPOINT --format-only.'
            )
        if not self.format_only and version not in EVALUATED_SPLITS:
            raise ConfigError(
                f'{self.ann_file}: the info file is of version {version!r} (metainfo.version); the '
                f'devkit scores {", ".join(EVALUATED_SPLITS)}.'
            )
        BaseMetric.dataset_meta.fset(self, dataset_meta)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Collect the predictions of a batch.

        Args:
            data_batch: Unused.
            data_samples: One dict per frame, with ``pred_instances_3d`` and ``sample_idx``.

        Raises:
            ConfigError: A frame has more boxes than nuScenes allows.
        """
        for sample in data_samples:
            count = len(sample['pred_instances_3d']['scores_3d'])
            if count > MAX_BOXES:
                raise ConfigError(
                    f'the model gives {count} boxes for a frame (sample_idx '
                    f'{sample["sample_idx"]}); nuScenes allows {MAX_BOXES}. Set max_num of the '
                    f'bbox_coder (or max_per_img of test_cfg) to {MAX_BOXES} or less.'
                )
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Write the result file, and score or check it.

        Args:
            results: One dict per frame, from :meth:`process`.

        Returns:
            Name to value; empty with ``format_only``.

        Raises:
            CibaError: Writing, scoring or checking fails; the message names the result file.
        """
        classes = self.dataset_meta['classes']
        self.version = self.dataset_meta['version']
        self.data_infos = load_info_file(self.ann_file)['data_list']
        folder = Path(self.jsonfile_prefix or tempfile.mkdtemp(prefix='nuscenes_results_'))
        try:
            written, _ = self.format_results(results, classes, str(folder))
        except OSError as error:
            raise write_error(folder, error) from error
        scores: dict[str, float] = {}
        for name, file in written.items():
            if self.format_only:
                self._check_submission(Path(file))
            else:
                scores.update(self._score(Path(file), classes, f'{name}_NuScenes'))
        if self.jsonfile_prefix is None:
            shutil.rmtree(folder)
        return scores

    def _check_submission(self, file: Path) -> None:
        tokens = {info['token'] for info in self.data_infos}
        tokens |= split_tokens(self.data_root, self.version)
        boxes = check_submission(file, tokens)
        print_log(
            f'{file}: {boxes} boxes in {len(tokens)} samples of {self.version}, in the form that '
            'the nuScenes test server takes.',
            logger='current',
        )

    def _score(self, file: Path, classes: Sequence[str], prefix: str) -> dict[str, float]:
        split = EVALUATED_SPLITS[self.version]
        try:
            if any(json.loads(file.read_text(encoding='utf-8'))['results'].values()):
                devkit = NuScenesEval(
                    NuScenes(version=self.version, dataroot=self.data_root, verbose=False),
                    config=self.eval_detection_configs,
                    result_path=str(file),
                    eval_set=split,
                    output_dir=str(file.parent),
                    verbose=False,
                )
                devkit.main(render_curves=False)
                summary_text = (file.parent / 'metrics_summary.json').read_text(encoding='utf-8')
                summary = json.loads(summary_text)
            else:
                print_log(
                    f'{file}: no frame has a box, so all scores are 0.', logger='current', level=30
                )
                summary = scores_of_nothing(self.eval_detection_configs)
                write_file(file.parent / 'metrics_summary.json', json.dumps(summary, indent=2))
        # The devkit raises assertions and other exceptions.
        except Exception as error:
            raise CibaError(
                f'scoring failed: {str(error) or type(error).__name__}\nThe predictions are kept in'
                f' {file}. Score them without another test with\n'
                f'python -m nuscenes.eval.detection.evaluate {file} --eval_set {split} '
                f'--dataroot {self.data_root} --version {self.version} --output_dir {file.parent}'
            ) from error
        return _name_scores(summary, classes, prefix)


def check_submission(file: Path, tokens: Iterable[str]) -> int:
    """Check a result file as the nuScenes test server does.

    Args:
        file: The result file.
        tokens: Tokens of all samples of the split.

    Returns:
        Number of boxes in it.

    Raises:
        CibaError: The server would refuse the file, with the reason.
    """
    try:
        boxes, meta = load_prediction(str(file), MAX_BOXES, DetectionBox)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise CibaError(f'{file}: the nuScenes test server will not take it: {error}') from error
    flags = [flag for flag in META_FLAGS if not isinstance(meta.get(flag), bool)]
    if flags:
        raise CibaError(
            f'{file}: meta lacks {", ".join(flags)}, which the nuScenes test server requires. '
            'Set them in test_evaluator.modality.'
        )
    wanted, found = set(tokens), set(boxes.sample_tokens)
    for difference, what in ((wanted - found, 'lacks'), (found - wanted, 'has too many:')):
        if difference:
            raise CibaError(
                f'{file}: {what} {len(difference)} samples, among them {min(difference)}. The '
                f'split has {len(wanted)}; the nuScenes test server wants these and no others. '
                'Test on all frames of the info file, and write that from all tables '
                '(tools/create_data.py).'
            )
    return sum(len(boxes[token]) for token in boxes.sample_tokens)


def split_tokens(data_root: str, version: str) -> set[str]:
    """Return the sample tokens of a version's evaluated split.

    Args:
        data_root: The nuScenes root.
        version: Its tables.

    Returns:
        The tokens; empty if the tables do not exist or the version is unknown.
    """
    folder = Path(data_root, version)
    names = create_splits_scenes().get(EVALUATED_SPLITS.get(version), ())
    if not all((folder / f'{table}.json').is_file() for table in ('scene', 'sample')):
        return set()
    scenes = json.loads((folder / 'scene.json').read_text(encoding='utf-8'))
    tokens = {scene['token'] for scene in scenes if scene['name'] in set(names)}
    samples = json.loads((folder / 'sample.json').read_text(encoding='utf-8'))
    return {sample['token'] for sample in samples if sample['scene_token'] in tokens}


def scores_of_nothing(config: DetectionConfig) -> dict[str, Any]:
    """Return the devkit's summary if there are no detections, which it cannot compute.

    Args:
        config: The devkit's configuration.

    Returns:
        The content of ``metrics_summary.json``, with precision 0 and errors 1.
    """
    metrics = DetectionMetrics(config)
    for name in config.class_names:
        for distance in config.dist_ths:
            metrics.add_label_ap(name, distance, 0.0)
        for error in TP_METRICS:
            undefined = error in _UNDEFINED_ERRORS.get(name, ())
            metrics.add_label_tp(name, error, np.nan if undefined else 1.0)
    metrics.add_runtime(0.0)
    return metrics.serialize()


def _name_scores(summary: dict, classes: Sequence[str], prefix: str) -> dict[str, float]:
    """Return the devkit's summary with the names and the rounding of mmdet3d."""
    scores = {}
    for name in classes:
        for distance, value in summary['label_aps'][name].items():
            # The keys are numbers, or strings in a summary from a file.
            scores[f'{prefix}/{name}_AP_dist_{float(distance)}'] = round(float(value), 4)
        for error, value in summary['label_tp_errors'][name].items():
            scores[f'{prefix}/{name}_{error}'] = round(float(value), 4)
    for error, value in summary['tp_errors'].items():
        scores[f'{prefix}/{_ERROR_NAMES[error]}'] = round(float(value), 4)
    scores[f'{prefix}/NDS'] = float(summary['nd_score'])
    scores[f'{prefix}/mAP'] = float(summary['mean_ap'])
    return scores
