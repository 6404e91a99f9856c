"""The feature cache: what a training computes does not depend on what the cache holds."""

import numpy as np
import pytest
import torch
import toy_pair
from mmengine.structures import BaseDataElement

from ciba_bev.distillation.feature_cache import FeatureCache
from ciba_bev.errors import CibaError, ConfigError

CPU = torch.device('cpu')


def make_samples(*names):
    return [BaseDataElement(metainfo=dict(token=f'sample-{name}')) for name in names]


def make_features(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 3, 4, 4, generator=generator),
        torch.randn(count, 2, 4, 4, generator=generator),
    )


def as_half(features):
    return [torch.from_numpy(feature.numpy().astype(np.float16)).float() for feature in features]


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / 'cache', {'teacher': 'a', 'student': 'b'})


def test_features_are_the_rounded_ones_the_first_time_too(cache):
    samples, features = make_samples(1, 2), make_features(2)
    assert cache.get(samples, CPU) is None
    first = cache.put(samples, *features)
    second = cache.get(samples, CPU)
    for put, got, wanted in zip(first, second, as_half(features)):
        assert put.dtype == got.dtype == torch.float32
        assert torch.equal(put, wanted)
        assert torch.equal(got, wanted)


def test_a_half_filled_batch_keeps_what_is_there(cache):
    cache.put(make_samples(1), *make_features(1, seed=1))
    samples, features = make_samples(1, 2), make_features(2, seed=2)
    assert cache.get(samples, CPU) is None
    for found, kept, new in zip(
        cache.put(samples, *features), as_half(make_features(1, seed=1)), as_half(features)
    ):
        assert torch.equal(found, torch.stack((kept[0], new[1])))


def test_a_damaged_file_is_missing_or_unharmed_whatever_byte_it_is(cache):
    samples, features = make_samples(1), make_features(1)
    cache.put(samples, *features)
    (file,) = cache.folder.iterdir()
    whole, refused = file.read_bytes(), 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        file.write_bytes(bytes(damaged))
        found = cache.get(samples, CPU)
        refused += found is None
        if found is not None:
            # A byte that means nothing, such as one of the date.
            assert all(torch.equal(a, b) for a, b in zip(found, as_half(features)))
    payload = sum(feature.numel() * 2 for feature in features)
    assert refused >= payload


@pytest.mark.parametrize('damage', ['empty', 'cut', 'other'])
def test_a_damaged_file_is_written_anew(cache, damage):
    samples, features = make_samples(1), make_features(1)
    cache.put(samples, *features)
    (file,) = cache.folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes({'empty': b'', 'cut': whole[: len(whole) // 2], 'other': b'text'}[damage])
    assert cache.get(samples, CPU) is None
    cache.put(samples, *features)
    assert file.read_bytes() == whole
    assert list(cache.folder.iterdir()) == [file]


def test_the_same_number_in_two_info_files_is_two_samples(cache):
    def number_0(path):
        return [BaseDataElement(metainfo=dict(sample_idx=0, lidar_path=path))]

    cache.put(number_0('train/0.bin'), *make_features(1))
    assert cache.get(number_0('train/0.bin'), CPU) is not None
    assert cache.get(number_0('val/0.bin'), CPU) is None


@pytest.mark.parametrize('samples', [None, [], [BaseDataElement()]])
def test_samples_without_names(cache, samples):
    with pytest.raises(ConfigError, match='tell samples apart'):
        cache.get(samples, CPU)


@pytest.mark.parametrize('value', [1e5, float('nan')])
def test_values_that_half_precision_cannot_hold(cache, value):
    teacher, student = make_features(1)
    student[0, 0, 0, 0] = value
    with pytest.raises(CibaError, match="the student's feature has values beyond 65504"):
        cache.put(make_samples(1), teacher, student)
    assert not list(cache.folder.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(CibaError, match='cannot be written'):
        FeatureCache(tmp_path / 'file' / 'cache', {})


class KilledError(Exception):
    """Ends a training."""


@pytest.fixture
def train(bottleneck_model, make_runner, tmp_path):
    """A function that runs a training: the losses of every step and the weights at the end."""

    def run(name, cache, last_step=None, **options):
        model = bottleneck_model(2, 4, feature_cache=str(tmp_path / cache))
        runner = make_runner(name, model, toy_pair.BOTTLENECK_OPTIMIZER, **options)
        steps, losses = [], runner.model._losses

        def note(*features):
            if len(steps) == last_step:
                raise KilledError
            found = losses(*features)
            steps.append({name: float(value.detach()) for name, value in found.items()})
            return found

        runner.model._losses = note
        runner.train()
        return steps, {name: value.clone() for name, value in runner.model.state_dict().items()}

    return run


def require_equal(first, second):
    assert first[0] == second[0]
    for name, value in first[1].items():
        assert torch.equal(value, second[1][name]), name


def test_an_empty_and_a_full_cache_train_the_same(train):
    cold = train('cold', 'cache')
    assert len(cold[0]) == 8  # two epochs of four batches
    require_equal(cold, train('warm', 'cache'))


# Another seed meets the samples in other batches, of which some samples are kept and some not.
@pytest.mark.parametrize('seed', [3, 4])
def test_a_training_killed_in_its_first_epoch_is_the_same(train, tmp_path, seed):
    whole = train('whole', 'whole')
    with pytest.raises(KilledError):
        train('killed', 'cache', last_step=2, **{'randomness.seed': seed})
    (folder,) = (tmp_path / 'cache').iterdir()
    assert len(list(folder.iterdir())) == 6
    require_equal(whole, train('again', 'cache'))


def test_a_training_resumed_with_another_cache_is_the_same(train, tmp_path):
    whole = train('whole', 'whole')
    checkpoint = str(tmp_path / 'work/whole/epoch_1.pth')
    steps, weights = train('rest', 'other', load_from=checkpoint, resume=True)
    require_equal((whole[0][4:], whole[1]), (steps, weights))


def test_a_damaged_cache_trains_the_same(train, tmp_path):
    whole = train('whole', 'cache')
    (folder,) = (tmp_path / 'cache').iterdir()
    first, second, *_ = sorted(folder.iterdir())
    first.write_bytes(b'')
    second.write_bytes(second.read_bytes()[:-1])
    require_equal(whole, train('again', 'cache'))
