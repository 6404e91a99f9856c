"""Data of other sizes than the networks' end in one sentence before the first step."""

from __future__ import annotations

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ciba_bev.classification import (
    CheckInputsHook,
    Classifier,
    MMIMDBDataset,
    RavdessAudioNetwork,
    RavdessDataset,
    VGGSoundDataset,
)
from ciba_bev.classification.check_inputs_hook import check_inputs
from ciba_bev.distillation import Distiller
from ciba_bev.errors import CibaError

FEATURE = dict(module='network.feature')


def mm_imdb(folder, text=300, image=4096, genres=23):
    path = folder / 'multimodal_imdb.hdf5'
    with h5py.File(path, 'w') as content:
        content['features'] = np.zeros((6, text), np.float32)
        content['vgg_features'] = np.zeros((6, image), np.float32)
        content['genres'] = np.zeros((6, genres), np.int32)
        content.attrs['train'] = [0, 6]
    return MMIMDBDataset(str(path), 'train')


def classifier(**network):
    network = {'type': 'ciba_bev.MMIMDBNetwork', 'modality': 'text', 'in_channels': 300, **network}
    return dict(type='ciba_bev.Classifier', network=network, inputs=[network['modality']])


def build(config):
    return Classifier(**{key: value for key, value in config.items() if key != 'type'})


def distiller(student, teacher):
    return Distiller(
        student=student,
        student_inputs=['text'],
        student_tap=FEATURE,
        teacher=dict(config=teacher, checkpoint='none', inputs=['image'], tap=FEATURE),
    )


def test_sizes_that_fit(tmp_path):
    check_inputs(mm_imdb(tmp_path), build(classifier()))
    # What a network does not read does not matter to it.
    check_inputs(mm_imdb(tmp_path, image=7), build(classifier()))
    check_inputs(mm_imdb(tmp_path, text=7, genres=5), build(classifier(in_channels=7, genres=5)))
    # Data sets and models of others are left alone.
    check_inputs(object(), build(classifier()))
    check_inputs(mm_imdb(tmp_path, text=7), nn.Linear(1, 1))


def test_another_number_of_features(tmp_path):
    data = mm_imdb(tmp_path, text=200)
    message = (
        r'multimodal_imdb\.hdf5, features: a sample has 200 numbers, but the text network of model '
        r'takes 300\. .*in_channels'
    )
    with pytest.raises(CibaError, match=message):
        check_inputs(data, build(classifier()))
    with pytest.raises(CibaError, match=r'text network of model\.student takes 300'):
        check_inputs(data, distiller(classifier(), classifier(modality='image', in_channels=4096)))


def test_features_of_a_frozen_teacher(tmp_path):
    teacher = classifier(modality='image', in_channels=512)
    with pytest.raises(CibaError, match=r'vgg_features: .* 4096 numbers, .*of the teacher .* 512'):
        check_inputs(mm_imdb(tmp_path), distiller(classifier(), teacher))
    # Its labels are of no interest.
    teacher = classifier(modality='image', in_channels=4096, genres=2)
    check_inputs(mm_imdb(tmp_path), distiller(classifier(), teacher))


def test_another_number_of_genres(tmp_path):
    message = (
        r'multimodal_imdb\.hdf5, genres: there are 20 classes, but the network of model has 23'
        r'\. Set its number of classes .* to 20'
    )
    with pytest.raises(CibaError, match=message):
        check_inputs(mm_imdb(tmp_path, genres=20), build(classifier()))


def test_another_number_of_emotions(tmp_path):
    for name in ('aud_features', 'vid_features'):
        (tmp_path / name).mkdir()
    np.save(tmp_path / 'aud_features' / 'a.npy', np.zeros((40, 256), np.float32))
    Image.new('RGB', (512, 256)).save(tmp_path / 'vid_features' / 'a.png')
    (tmp_path / 'train.csv').write_text('a.npy,a.png,7\n')
    data = RavdessDataset(str(tmp_path), 'train.csv')
    assert data.shapes == {'audio': (1, 40, 256), 'image': (3, 256, 512)}

    def model(**options):
        network = dict(type='ciba_bev.RavdessImageNetwork', feature_size=2, **options)
        return Classifier(network, ['image'])

    check_inputs(data, model())
    with pytest.raises(CibaError, match=r'train\.csv \(labels\): there are 8 classes, .* has 6\.'):
        check_inputs(data, model(classes=6))


def test_another_number_of_events(tmp_path):
    (tmp_path / 'spectrograms').mkdir()
    for clip in 'ab':
        np.save(tmp_path / 'spectrograms' / f'{clip}.npy', np.zeros((4, 4), np.float16))
    (tmp_path / 'train.csv').write_text('clip,label\na,0\nb,309\n')
    with pytest.raises(CibaError, match=r"row 3 has the label '309'.* 0 to 99.*set classes"):
        VGGSoundDataset(str(tmp_path), 'train.csv', ['audio'])
    data = VGGSoundDataset(str(tmp_path), 'train.csv', ['audio'], classes=310)
    network = dict(type='ciba_bev.VGGSoundNetwork', modality='audio', feature_size=16)
    with pytest.raises(CibaError, match=r'train\.csv \(labels\): there are 310 classes, .* 100'):
        check_inputs(data, Classifier(network, ['audio']))
    check_inputs(data, Classifier(dict(network, classes=310), ['audio']))


def test_all_data_are_compared_before_training(tmp_path):
    """The test data too, which a training meets after its last epoch."""
    good, bad = (tmp_path / name for name in ('good', 'bad'))
    for folder in (good, bad):
        folder.mkdir()

    def loop(dataset):
        return SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))

    fits, differs = loop(mm_imdb(good)), loop(mm_imdb(bad, text=5))
    model, hook = build(classifier()), CheckInputsHook()

    def runner(train, val, test):
        return SimpleNamespace(model=model, train_loop=train, val_loop=val, test_loop=test)

    hook.before_train(runner(fits, None, fits))
    for loops in ((differs, fits, fits), (fits, differs, fits), (fits, fits, differs)):
        with pytest.raises(CibaError, match='5 numbers'):
            hook.before_train(runner(*loops))
    hook.before_test(runner(None, None, fits))
    with pytest.raises(CibaError, match='5 numbers'):
        hook.before_test(runner(None, None, differs))


@pytest.mark.parametrize('size', [(19, 256), (13, 256), (40, 1)])
def test_sounds_too_small_for_the_convolutions(size):
    network = RavdessAudioNetwork(channels=(2, 2, 2), feature_size=2, hidden_size=2)
    message = rf'{size[0]} x {size[1]} is too small .* 20 rows'
    with pytest.raises(CibaError, match=message):
        network(audio=torch.zeros(1, 1, *size))
    assert network(audio=torch.zeros(1, 1, 20, 20)).shape == (1, 8)
