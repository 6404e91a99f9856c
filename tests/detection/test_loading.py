"""Loading and packing of images against mmdet3d's, and what they copy."""

from __future__ import annotations

import copy
import tracemalloc
from pathlib import Path

import cv2
import mmdet3d.datasets.transforms  # noqa: F401
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from ciba_bev.detection import loading
from ciba_bev.detection.data_preprocessor import DetectionDataPreprocessor

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
CAMERAS = 6
RESIZE = dict(
    type='MultiViewWrapper',
    collected_keys=['scale_factor', 'img_shape'],
    transforms=[dict(type='Resize3D', scale_factor=0.5, keep_ratio=True)],
)
META_KEYS = [
    *('filename', 'cam2img', 'lidar2cam', 'ori_cam2img', 'img_shape', 'ori_shape', 'pad_shape'),
    *('scale_factor', 'img_norm_cfg', 'num_views', 'num_ref_frames', 'sample_idx'),
]


@pytest.fixture(autouse=True)
def _mmdet3d_scope():
    init_default_scope('mmdet3d')


@pytest.fixture
def make_info(tmp_path):
    """Writes images and gives the info of a sample with them."""

    def make(size=(60, 96), other_size=None):
        generator = np.random.default_rng(0)
        cameras = {}
        for number in range(CAMERAS):
            shape = (*(other_size if number == 2 and other_size else size), 3)
            path = str(tmp_path / f'{number}.jpg')
            image = cv2.GaussianBlur(generator.integers(0, 256, shape, dtype=np.uint8), (5, 5), 0)
            assert cv2.imwrite(path, image)
            cameras[f'CAM_{number}'] = dict(
                img_path=path,
                cam2img=generator.normal(size=(3, 3)).tolist(),
                lidar2cam=generator.normal(size=(4, 4)).tolist(),
            )
        return dict(images=cameras, sample_idx=7)

    return make


def run(scope, info, *between, **load):
    """What the transforms of a scope make of a copy of an info."""
    pipeline = [
        dict(type=f'{scope}.LoadMultiViewImageFromFiles', num_views=CAMERAS, **load),
        *between,
        dict(type=f'{scope}.Pack3DDetInputs', keys=['img'], meta_keys=META_KEYS),
    ]
    return Compose(pipeline)(copy.deepcopy(info))


@pytest.mark.parametrize('between', [(), (RESIZE,)], ids=['', 'resized'])
@pytest.mark.parametrize(
    ('images', 'load'),
    [
        (dict(), dict()),
        (dict(), dict(color_type='color')),
        (dict(), dict(to_float32=True)),
        (dict(), dict(set_default_scale=False)),
        (dict(other_size=(48, 112)), dict()),
    ],
    ids=['bytes', 'color', 'floats', 'no scale', 'sizes'],
)
def test_samples_are_those_of_mmdet3d(make_info, images, load, between):
    info = make_info(**images)
    ours, theirs = (run(scope, info, *between, **load) for scope in ('ciba_bev', 'mmdet3d'))
    found, expected = ours['inputs'], theirs['inputs']
    assert found.keys() == expected.keys() == {'img'}
    assert found['img'].dtype == expected['img'].dtype
    assert torch.equal(found['img'], expected['img'])
    assert len(found['img']) == CAMERAS
    found, expected = (packed['data_samples'].metainfo for packed in (ours, theirs))
    assert found.keys() == expected.keys() >= {'cam2img', 'img_shape', 'filename'}
    for key, value in expected.items():
        assert type(found[key]) is type(value), key
        np.testing.assert_equal(found[key], value)
    assert ours.keys() == theirs.keys()
    assert ours['data_samples'].keys() == theirs['data_samples'].keys()


def test_images_of_the_model_are_those_of_floats_of_mmdet3d(make_info, make_sample):
    info = make_info(size=(50, 80))
    preprocessor = DetectionDataPreprocessor(
        mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], pad_size_divisor=32
    )
    images = []
    for scope, load in (('ciba_bev', {}), ('mmdet3d', dict(to_float32=True))):
        sample = run(scope, info, **load)
        sample['data_samples'] = make_sample()
        images.append(preprocessor(pseudo_collate([sample]))['inputs']['imgs'])
    assert images[0].shape == (1, CAMERAS, 3, 64, 96)
    assert torch.equal(*images)


def test_what_differs_in_size_is_refused_not_misplaced(make_info):
    pipeline = Compose(
        [
            dict(type='ciba_bev.LoadMultiViewImageFromFiles', num_views=CAMERAS),
            lambda results: {**results, 'img': [results['img'][0][:-2], *results['img'][1:]]},
            dict(type='ciba_bev.Pack3DDetInputs', keys=['img'], meta_keys=META_KEYS),
        ]
    )
    with pytest.raises(ValueError, match='same shape'):
        pipeline(make_info())


def test_images_are_copied_once(make_info, monkeypatch):
    """Into one tensor of bytes; mmdet3d copies them three times."""
    info = make_info(size=(300, 500))
    written = []
    split = cv2.split

    def note(image, planes):
        written.extend(plane.ctypes.data for plane in planes)
        return split(image, planes)

    monkeypatch.setattr(cv2, 'split', note)
    run('ciba_bev', info)
    written.clear()
    tracemalloc.start()
    images = run('ciba_bev', info)['inputs']['img']
    # Memory of torch is not counted.
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    assert images.untyped_storage().nbytes() == images.numel() == CAMERAS * 3 * 300 * 500
    begin, plane = images.data_ptr(), 300 * 500
    assert written == list(range(begin, begin + images.numel(), plane))
    # The decoded images themselves, and a compressed file.
    assert images.numel() < most < 1.3 * images.numel()


def test_images_go_where_they_are_asked_to(make_info):
    info = make_info()
    expected = run('mmdet3d', info)['inputs']['img']
    queue = torch.zeros(3, *expected.shape, dtype=torch.uint8)
    out = queue[1]

    def ask(out):
        return run('ciba_bev', info, lambda results: {**results, 'img_out': out})['inputs']['img']

    assert ask(out) is out
    assert torch.equal(queue[1], expected)
    assert not queue[::2].any()
    for wrong in (queue[:, 0], queue[1].float()):
        images = ask(wrong)
        assert torch.equal(images, expected)
        assert not queue[::2].any()


def steps(tree):
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        for branch in tree:
            yield from steps(branch)


def test_every_config_loads_and_packs_images_with_them():
    loading_types, packing_types = set(), set()
    for path in sorted(CONFIGS.glob('*.py')):
        for step in steps(Config.fromfile(path).to_dict()):
            kind = str(step.get('type', ''))
            if kind.endswith('LoadMultiViewImageFromFiles'):
                loading_types.add(kind)
            if kind.endswith('Pack3DDetInputs') and 'img' in step['keys']:
                packing_types.add(kind)
    assert loading_types == {'ciba_bev.LoadMultiViewImageFromFiles'}
    assert packing_types == {'ciba_bev.Pack3DDetInputs'}


class OneTensor:
    """A data set that says where its tensor lies."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        tensor = loading.empty_for_batch((2, 3), torch.int16)
        shared = tensor.is_shared()
        return tensor.fill_(index), shared


@pytest.mark.parametrize('workers', [0, 1])
def test_tensors_for_batches_lie_in_shared_memory_in_loading_processes(workers):
    loader = DataLoader(OneTensor(), batch_size=None, num_workers=workers)
    for index, (tensor, shared) in enumerate(loader):
        assert shared == bool(workers)
        assert torch.equal(tensor, torch.full((2, 3), index, dtype=torch.int16))
