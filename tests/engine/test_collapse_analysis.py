"""Spectra of trained models against NumPy on features computed by hand, and what goes wrong."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ciba_bev.analysis import BottleneckMetric
from ciba_bev.distillation.bottlenecks import BottleneckEvaluation
from ciba_bev.engine.collapse_analysis import TrainedModel, analyze_collapse, main
from ciba_bev.errors import CibaError
from ciba_bev.registry import MODELS

STUDENT = dict(type='ciba_bev.ToyCameraStudent')
VALIDATION = """
val_dataloader = dict(
    batch_size={batch_size}, num_workers=0, dataset=dict(type='ToyPairs', length={length}),
    collate_fn=dict(type='pseudo_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False))
"""


@pytest.fixture(scope='module')
def toy_pair():
    """The toy of the distillation tests."""
    folder = str(Path(__file__).parents[1] / 'distillation')
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module('toy_pair')


@pytest.fixture
def write_config(toy_pair, tmp_path):
    """A function that writes a config, by default of the student, with validation data."""

    def write(name: str, model: dict = STUDENT, length: int = 5, batch_size: int = 2) -> str:
        path = toy_pair.write_config(tmp_path / f'{name}.py', model)
        validation = VALIDATION.format(length=length, batch_size=batch_size) if length else ''
        path.write_text(path.read_text() + validation)
        return str(path)

    return write


@pytest.fixture
def write_weights(toy_pair, tmp_path):
    """A function that writes a checkpoint of random weights; returns the file and the model."""

    def write(seed: int, model: dict = STUDENT):
        torch.manual_seed(seed)
        network = MODELS.build(model)
        path = tmp_path / f'weights{seed}.pth'
        torch.save({'state_dict': network.state_dict(), 'meta': {'epoch': 1}}, path)
        return str(path), network.eval()

    return write


@pytest.fixture
def distiller(toy_pair):
    """Config of a distiller of the student; its teacher's and bottleneck's files do not exist."""
    return dict(
        type='ciba_bev.Distiller',
        student=STUDENT,
        student_inputs=['camera'],
        student_tap=toy_pair.STUDENT_TAP,
        teacher=dict(
            config='missing/teacher.py',
            checkpoint='missing/teacher.pth',
            tap=toy_pair.TEACHER_TAP,
            inputs=['lidar'],
        ),
        bottleneck=dict(config='missing/b.py', checkpoint='missing/b.pth', size=4),
    )


@pytest.fixture
def bottlenecks_file(tmp_path):
    """What the validation of three bottlenecks writes; the two larger ones decode the same."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(3, 10, 8, 8, generator=generator)
    terms = {}
    for name, channels in (('h2', 2), ('h4', 4), ('h8', 4)):
        decoded = torch.cat((student[:, :channels], 0.01 * student[:, channels:]), 1)
        error = (decoded - student).square().sum(1).mean()
        terms[name] = BottleneckEvaluation(error, error, decoded)
    metric = BottleneckMetric(out_file=str(tmp_path / 'bottlenecks.json'))
    metric.process(None, [{'teacher': student, 'student': student, **terms}])
    metric.evaluate(3)
    return metric.out_file


def student_features(toy_pair, network, indices):
    """The tokens the student's head is given, one row a cell."""
    with torch.no_grad():
        maps = network.backbone(torch.stack(toy_pair.make_batch(*indices)['inputs']['camera']))
    return maps.movedim(1, -1).flatten(0, -2).double().numpy()


def spectrum_of(rows):
    return np.linalg.svd(np.cov(rows.T, bias=True), compute_uv=False)


def arguments_of(tap: dict) -> list[str]:
    words = [f'{name}={value}' for name, value in tap.items()]
    return ['--tap', *(word.replace('(', '[').replace(')', ']').replace(' ', '') for word in words)]


def test_numbers_are_those_of_all_features_at_once(toy_pair, write_config, write_weights, tmp_path):
    weights = {'one': write_weights(1), 'two': write_weights(2)}
    config = write_config('plain')
    content = analyze_collapse(
        [TrainedModel(label, config, path) for label, (path, _) in weights.items()],
        tmp_path / 'out',
        tap=toy_pair.STUDENT_TAP,
        bottleneck_size=3,
    )
    assert content == json.loads((tmp_path / 'out' / 'collapse.json').read_text())
    assert content['tap']['module'] == 'head'
    assert content['bottlenecks'] is None
    for entry in content['models']:
        path, network = weights[entry['label']]
        rows = student_features(toy_pair, network, range(5))
        values = spectrum_of(rows)
        shares = values / values.sum()
        assert (entry['config'], entry['checkpoint'], entry['samples']) == (config, path, 5)
        np.testing.assert_allclose(entry['singular_values'], values, rtol=1e-5)
        rank = np.exp(-(shares * np.log(shares)).sum())
        assert entry['effective_rank'] == pytest.approx(rank, rel=1e-5)
        for name, energy in (
            ('variance', rows.var(0)),
            ('second_moment', np.square(rows).mean(0)),
        ):
            share = energy[:3].sum() / energy.sum()
            assert entry['channel_energy'][name] == pytest.approx(share, rel=1e-5)
        assert entry['channel_energy']['channels'] == 3
    one, two = (entry['singular_values'] for entry in content['models'])
    assert one != two


def test_a_distillers_config_gives_what_the_plain_one_gives(
    toy_pair, write_config, write_weights, distiller, tmp_path
):
    path, network = write_weights(1)
    mse = write_config('mse', dict(distiller, bottleneck=None))
    ciba = write_config('ciba', distiller)
    content = analyze_collapse(
        [
            TrainedModel('plain', write_config('plain'), path),
            TrainedModel('MSE', mse, path),
            TrainedModel('CIBA (4)', ciba, path),
        ],
        tmp_path / 'out',
    )
    plain, mse, ciba = content['models']
    assert plain['singular_values'] == mse['singular_values'] == ciba['singular_values']
    # Tap and H are those of the first config that has them.
    expected = spectrum_of(student_features(toy_pair, network, range(5)))
    np.testing.assert_allclose(plain['singular_values'], expected, rtol=1e-5)
    assert plain['channel_energy'] == ciba['channel_energy']
    assert plain['channel_energy']['channels'] == 4


def test_a_distilled_students_checkpoint_fits_the_plain_config(
    toy_pair, write_config, write_weights, tmp_path
):
    path, _ = write_weights(1)
    content = torch.load(path, weights_only=True)
    record = {'kind': 'distilled student', 'method': 'MSELoss on a code of 4'}
    torch.save({**content, 'distillation': record}, tmp_path / 'distilled.pth')
    config = write_config('plain')
    found = analyze_collapse(
        [
            TrainedModel('undistilled', config, path),
            TrainedModel('distilled', config, str(tmp_path / 'distilled.pth')),
        ],
        tmp_path / 'out',
        tap=toy_pair.STUDENT_TAP,
    )['models']
    assert found[0]['singular_values'] == found[1]['singular_values']


def test_models_are_in_evaluation_mode(toy_pair, write_config, write_weights, tmp_path):
    model = dict(type='ciba_bev.ToyLidarTeacher', dropout=0.5)
    path, network = write_weights(1, model)
    found = analyze_collapse(
        [TrainedModel('teacher', write_config('teacher', model), path)],
        tmp_path / 'out',
        tap=toy_pair.TEACHER_TAP,
    )['models'][0]
    with torch.no_grad():
        lidar = torch.stack(toy_pair.make_batch(*range(5))['inputs']['lidar'])
        maps = network.neck(network.backbone(lidar))[0]
    expected = spectrum_of(maps.movedim(1, -1).flatten(0, -2).double().numpy())
    np.testing.assert_allclose(found['singular_values'], expected, rtol=1e-5)
    assert found['channel_energy'] is None


@pytest.mark.parametrize('batch_size', [1, 2, 4])
def test_max_samples_takes_the_first_ones(
    toy_pair, write_config, write_weights, tmp_path, batch_size
):
    path, network = write_weights(1)
    config = write_config('plain', batch_size=batch_size)
    found = analyze_collapse(
        [TrainedModel('one', config, path)], tmp_path, tap=toy_pair.STUDENT_TAP, max_samples=3
    )['models'][0]
    assert found['samples'] == 3
    expected = spectrum_of(student_features(toy_pair, network, range(3)))
    np.testing.assert_allclose(found['singular_values'], expected, rtol=1e-5)


def test_all_models_see_the_data_of_the_first(toy_pair, write_config, write_weights, tmp_path):
    path, _ = write_weights(1)
    found = analyze_collapse(
        [
            TrainedModel('first', write_config('first', length=4), path),
            TrainedModel('second', write_config('second', length=7), path),
            TrainedModel('no data', write_config('third', length=0), path),
        ],
        tmp_path / 'out',
        tap=toy_pair.STUDENT_TAP,
    )['models']
    assert [entry['samples'] for entry in found] == [4, 4, 4]
    assert found[0]['singular_values'] == found[2]['singular_values']


def test_the_command_draws_and_prints(
    toy_pair, write_config, write_weights, distiller, bottlenecks_file, tmp_path, capsys
):
    out = tmp_path / 'out'
    config = write_config('plain')
    main(
        [
            *('--model', '[plain]', config, write_weights(1)[0]),
            *('--model', 'CIBA (4)', write_config('ciba', distiller), write_weights(2)[0]),
            *arguments_of(toy_pair.STUDENT_TAP),
            *('--bottleneck-size', '2', '--bottlenecks', bottlenecks_file, '--out', str(out)),
        ]
    )
    assert {path.name for path in out.iterdir()} == {
        'collapse.json',
        *(f'{name}.{kind}' for name in ('spectra', 'decoded_spectra') for kind in ('png', 'svg')),
    }
    for picture in out.glob('*.png'):
        assert picture.read_bytes().startswith(b'\x89PNG')
    content = json.loads((out / 'collapse.json').read_text())
    assert content['bottlenecks'] == json.loads(Path(bottlenecks_file).read_text())
    # Two of the three spectra are the same, so the smaller of these sizes is proposed.
    assert content['bottlenecks']['metrics']['suggested_size'] == 4
    printed = capsys.readouterr().out
    assert 'variance in [0:2]' in printed
    for entry in content['models']:
        row = next(line for line in printed.splitlines() if entry['label'] in line)
        values = entry['singular_values']
        assert f'{entry["effective_rank"]:.2f} of 10' in row
        assert f'{100 * entry["channel_energy"]["variance"]:.1f} %' in row
        assert row.split()[-1] == f'{values[0] / ((values[4] + values[5]) / 2):.3g}'


def test_says_what_is_wrong_before_the_data_are_read(
    toy_pair, write_config, write_weights, distiller, tmp_path, monkeypatch
):
    def refuse(*unused):
        raise AssertionError('data were read')

    path, _ = write_weights(1)
    other, _ = write_weights(2, dict(type='ciba_bev.ToyLidarTeacher'))
    plain = write_config('plain')
    monkeypatch.setattr(toy_pair.ToyPairs, '__getitem__', refuse)
    (tmp_path / 'empty.json').write_text('{"metrics": {}, "decoded_spectra": {}}')
    (tmp_path / 'torn.json').write_text('{"metrics": ')
    bottleneck_training = dict(type='ciba_bev.BottleneckTraining', bottleneck_sizes=[2])
    cases = [
        ([('a', plain, path), ('a', plain, path)], {}, "2 models have the label 'a'"),
        ([('a', plain, other)], {}, 'not one of the model in .*plain'),
        ([('a', plain, 'missing.pth')], {}, 'needs missing.pth, and there is no such file'),
        ([('a', 'missing.py', path)], {}, 'missing.py: there is no such config'),
        ([('a', plain, path)], dict(tap=None), '--tap module=.*grid='),
        ([('a', plain, path)], dict(tap=dict(module='heda')), "no submodule 'heda'.*head"),
        ([('a', plain, path)], dict(tap=dict(modul='head')), r'needs module.*modul'),
        ([('a', write_config('bare', length=0), path)], {}, 'bare.py: has no val_dataloader'),
        ([('a', write_config('b', bottleneck_training), path)], {}, 'trains bottlenecks'),
        ([('a', plain, path)], dict(bottleneck_size=0), 'bottleneck_size is 0'),
        ([('a', plain, path)], dict(max_samples=0), 'max_samples is 0'),
        ([('a', plain, path)], dict(bottlenecks='missing.json'), 'missing.json: there is no'),
        (
            [('a', plain, path)],
            dict(bottlenecks=tmp_path / 'empty.json'),
            'empty.json: has no spectra.*BottleneckMetric',
        ),
        ([('a', plain, path)], dict(bottlenecks=tmp_path / 'torn.json'), 'torn.json: not a JSON'),
    ]
    for models, options, message in cases:
        options = {'tap': toy_pair.STUDENT_TAP, **options}
        with pytest.raises(CibaError, match=f'(?s){message}'):
            analyze_collapse(
                [TrainedModel(*words) for words in models], tmp_path / 'out', **options
            )
    assert not (tmp_path / 'out').exists()


def test_a_code_wider_than_the_feature_is_refused(toy_pair, write_config, write_weights, tmp_path):
    models = [TrainedModel('a', write_config('plain'), write_weights(1)[0])]
    with pytest.raises(CibaError, match='size is 11, but the feature of a at head has 10'):
        analyze_collapse(models, tmp_path / 'out', toy_pair.STUDENT_TAP, bottleneck_size=11)


def test_diverged_weights_are_named_with_the_samples(
    toy_pair, write_config, write_weights, tmp_path
):
    path, network = write_weights(1)
    weights = network.state_dict()
    weights['backbone.0.bias'][0] = torch.nan
    torch.save({'state_dict': weights}, path)
    models = [TrainedModel('MSE', write_config('plain'), path)]
    with pytest.raises(CibaError, match=r"the MSE's feature at head .* sample-0, sample-1"):
        analyze_collapse(models, tmp_path / 'out', toy_pair.STUDENT_TAP)
    assert not (tmp_path / 'out').exists()
