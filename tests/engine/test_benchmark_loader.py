"""What a data loader takes for a sample, and the data it falls back to."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ciba_bev.engine.benchmark_loader import LoaderCost, build_loader, measure_loader
from ciba_bev.errors import CibaError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
CAMERAS = [
    f'CAM_{position}'
    for position in ('FRONT', 'FRONT_RIGHT', 'FRONT_LEFT', 'BACK', 'BACK_LEFT', 'BACK_RIGHT')
]


@pytest.fixture
def config():
    """A config of six cameras whose data set is not there."""
    loader = dict(
        batch_size=1,
        num_workers=2,
        persistent_workers=True,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(
            type='ciba_bev.NuScenesFrameDataset',
            data_root='missing/',
            ann_file='some.pkl',
            modality=dict(use_lidar=False, use_camera=True),
            filter_empty_gt=False,
            data_prefix={camera: f'samples/{camera}' for camera in CAMERAS},
            pipeline=[
                dict(type='mmdet3d.LoadMultiViewImageFromFiles', num_views=6),
                dict(type='mmdet3d.Pack3DDetInputs', keys=['img'], meta_keys=['lidar2cam']),
            ],
        ),
    )
    return Config(dict(train_dataloader=loader, default_scope='mmdet3d'))


def test_missing_data_are_simulated(config, tmp_path):
    loader, source = build_loader(config, 2, (64, 36), tmp_path)
    assert source == 'simulated frames with images of 64 x 36: there are no data in missing/'
    batches = list(loader)
    assert [len(batch['data_samples']) for batch in batches] == [2, 2]
    assert batches[0]['inputs']['img'][1].shape == (6, 3, 36, 64)
    # What was given stays as it is.
    assert config.train_dataloader.dataset.data_root == 'missing/'

    cost = measure_loader(loader, samples=6)
    assert cost.images == 6
    assert 0 < cost.decoding_seconds < cost.cpu_seconds


class Loader(list):
    """Batches of two samples; each decodes the images of ``paths`` and computes a while."""

    def __init__(self, batches, image, seconds):
        super().__init__(range(batches))
        self.file = cv2.imencode('.jpg', image)[1]
        self.seconds = seconds
        self.threads = set()

    def __iter__(self):
        for _ in super().__iter__():
            for _ in range(2):
                assert cv2.imdecode(self.file, cv2.IMREAD_COLOR) is not None
                began = time.process_time()
                while time.process_time() - began < self.seconds:
                    pass
                time.sleep(2 * self.seconds)
            self.threads |= {torch.get_num_threads(), cv2.getNumThreads()}
            yield {'data_samples': [None, None]}


def test_costs_of_a_sample():
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    loader, decode, threads = Loader(2, image, 0.02), cv2.imdecode, torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        # Goes round more than once.
        cost = measure_loader(loader, samples=7)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert cost.images == 1
    computing = cost.cpu_seconds - cost.decoding_seconds
    # The clocks of threads differ in how fine they are; waiting is no work.
    assert 0.02 <= computing < 0.05
    assert cost.decoding_seconds > 0.0005
    assert cost.wall_seconds > 0.06
    assert loader.threads == {1}
    assert cv2.imdecode is decode


def test_decoding_is_given_back_after_an_error():
    class Broken(list):
        def __iter__(self):
            raise CibaError('no data')

    decode = cv2.imdecode
    with pytest.raises(CibaError):
        measure_loader(Broken())
    assert cv2.imdecode is decode


def test_description():
    assert LoaderCost(0.5, 0.3, 0.1, 24).describe() == (
        'Loader, one process: 2.00 samples per second, 0.300 CPU-seconds per sample, 3.00 times '
        'the decoding of its 24 images (0.100).'
    )
    assert LoaderCost(0.5, 0.3, 0.0, 0).describe() == (
        'Loader, one process: 2.00 samples per second, 0.300 CPU-seconds per sample.'
    )


def test_workers_decode_and_do_little_else(tmp_path):
    """Of full-size images; distortion, normalization and padding are the device's work."""
    config = Config.fromfile(CONFIGS / 'bevformer_r50.py')
    config.train_dataloader.dataset.data_root = 'missing/'
    init_default_scope(config.default_scope)
    loader, _ = build_loader(config, 1, (64, 36), tmp_path)
    # As large as nuScenes' own, and about as hard to decode.
    noise = np.random.default_rng(0).integers(0, 256, (225, 400, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(cv2.resize(noise, (1600, 900)), None, 4)
    for path in (tmp_path / 'simulated').rglob('*.jpg'):
        cv2.imwrite(str(path), image)
    assert next(iter(loader))['inputs']['img'][0].shape == (24, 3, 900, 1600)
    cost = measure_loader(loader, samples=3)
    print(cost.describe())
    assert cost.images == 24
    # 13 times when workers also distorted, normalized and padded; 3.2 with mmdet3d's three copies;
    # 1.8 with one.
    assert cost.cpu_seconds < 2.5 * cost.decoding_seconds
