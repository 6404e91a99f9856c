"""The preprocessor against mmdet3d's."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from mmdet3d.models.data_preprocessors import Det3DDataPreprocessor
from mmengine.config import Config
from torch.utils._python_dispatch import TorchDispatchMode

from ciba_bev.detection.data_preprocessor import DetectionDataPreprocessor
from ciba_bev.detection.photometric_distortion import distort
from ciba_bev.ops import voxelization

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SETTINGS = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=32,
    pad_value=-3,
)


@pytest.fixture
def batch(make_sample):
    images = [torch.randint(256, (4, 3, *size), dtype=torch.uint8) for size in ((45, 80), (40, 70))]
    return dict(inputs=dict(img=images), data_samples=[make_sample() for _ in images])


@pytest.mark.parametrize('bgr_to_rgb', [True, False])
@pytest.mark.parametrize('kind', [torch.uint8, torch.float32])
@pytest.mark.parametrize('form', ['views', 'single', 'stacked'])
def test_undistorted_images_are_those_of_mmdet3d(batch, form, kind, bgr_to_rgb, monkeypatch):
    # Several pieces an image.
    monkeypatch.setattr('ciba_bev.detection.data_preprocessor._CACHED_PIXELS', 700)
    settings = dict(SETTINGS, bgr_to_rgb=bgr_to_rgb)
    images = [image.to(kind) for image in batch['inputs']['img']]
    if form == 'single':
        images = [image[0] for image in images]
    if form == 'stacked':
        images = images[0]
        batch['data_samples'] *= 2
    batch['inputs']['img'] = images
    results = []
    for preprocessor in (
        DetectionDataPreprocessor(photometric_distortion=dict(), **settings),
        Det3DDataPreprocessor(**settings),
    ):
        results.append(preprocessor(copy.deepcopy(batch), training=False))
    ours, theirs = results
    assert torch.equal(ours['inputs']['imgs'], theirs['inputs']['imgs'])
    for sample, expected in zip(ours['data_samples'], theirs['data_samples']):
        assert sample.metainfo == expected.metainfo


def test_training_images_are_distorted_then_normalized(batch, monkeypatch):
    monkeypatch.setattr('ciba_bev.detection.data_preprocessor._CACHED_PIXELS', 700)
    ours = DetectionDataPreprocessor(photometric_distortion=dict(), **SETTINGS)
    theirs = Det3DDataPreprocessor(**SETTINGS)
    drawn = []
    draw = ours.photometric_distortion.draw
    monkeypatch.setattr(
        ours.photometric_distortion,
        'draw',
        lambda *arguments: drawn.append(draw(*arguments)) or drawn[-1],
    )
    before = [image.clone() for image in batch['inputs']['img']]
    found = ours(batch, training=True)['inputs']['imgs']
    for image, original in zip(batch['inputs']['img'], before):
        assert torch.equal(image, original)
    # One draw for all images of all samples.
    assert [parameters.shape for parameters in drawn] == [(8, 8)]
    images = [distort(image, own) for image, own in zip(before, drawn[0].split(4))]
    batch['inputs']['img'] = images
    expected = theirs(batch, training=True)['inputs']['imgs']
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_the_seed_decides_and_processes_differ(batch, monkeypatch):
    preprocessor = DetectionDataPreprocessor(photometric_distortion=dict(), **SETTINGS)

    def images(seed, rank=0):
        monkeypatch.setattr('ciba_bev.detection.data_preprocessor.get_rank', lambda: rank)
        torch.manual_seed(seed)
        return [preprocessor(copy.copy(batch), True)['inputs']['imgs'] for _ in range(2)]

    first, second = images(0)
    assert not torch.equal(first, second)
    for again, expected in zip(images(0), (first, second)):
        assert torch.equal(again, expected)
    assert not torch.equal(images(1)[0], first)
    assert not torch.equal(images(0, rank=1)[0], first)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    'name', ['objectdgcnn_voxel01', 'objectdgcnn_pillar02', 'quickstart_object_dgcnn']
)
def test_voxels_of_the_teachers_are_those_of_mmdet3d(name, training, make_sample):
    settings = Config.fromfile(CONFIGS / f'{name}.py', import_custom_modules=False).model
    settings = settings.data_preprocessor.to_dict()
    assert settings.pop('type') == 'ciba_bev.DetectionDataPreprocessor'
    spread = torch.tensor([12.0, 12, 1.5, 0.3, 0.3])
    points = [torch.randn(count, 5) * spread for count in (30000, 20000, 0)]
    batch = dict(inputs=dict(points=points), data_samples=[make_sample() for _ in points])
    results = []
    for kind in (DetectionDataPreprocessor, Det3DDataPreprocessor):
        preprocessor = kind(**copy.deepcopy(settings)).train(training)
        results.append(preprocessor(copy.deepcopy(batch), training)['inputs']['voxels'])
    ours, theirs = results
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key].dtype == value.dtype
        assert torch.equal(ours[key], value), key
    assert len(ours['voxels']) > 1000


def test_voxels_wait_for_the_device_once_a_sample(make_sample, monkeypatch):
    """Once for their number; sizes and bounds are on the device already."""
    # The way of all devices but the CPU.
    monkeypatch.setattr(voxelization, '_by_table', voxelization._by_sorting)
    waits = []

    class Waits(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            name = function.overloadpacket._qualified_op_name
            # Reading a value, counting, and a tensor made from a list.
            if name in {'aten::_local_scalar_dense', 'aten::nonzero', 'aten::lift_fresh'}:
                waits.append(name)
            return function(*args, **(kwargs or {}))

    settings = Config.fromfile(CONFIGS / 'objectdgcnn_pillar02.py', import_custom_modules=False)
    preprocessor = DetectionDataPreprocessor(
        **{key: value for key, value in settings.model.data_preprocessor.items() if key != 'type'}
    )
    points = [torch.randn(count, 5) for count in (300, 200)]
    batch = dict(inputs=dict(points=points), data_samples=[make_sample() for _ in points])
    # The first batch brings the constants to the device.
    expected = preprocessor(copy.deepcopy(batch))['inputs']['voxels']
    with Waits():
        found = preprocessor(batch)['inputs']['voxels']
    assert waits == ['aten::_local_scalar_dense'] * 2
    for key, value in expected.items():
        assert torch.equal(found[key], value)
