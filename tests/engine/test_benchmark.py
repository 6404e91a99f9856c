"""What a distillation step costs: that everything is measured, in turns, and put together right."""

from __future__ import annotations

import copy
import importlib
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from ciba_bev.engine import benchmark
from ciba_bev.errors import CibaError

CPU = torch.device('cpu')
CAMERAS = [
    f'CAM_{place}'
    for place in ('FRONT', 'FRONT_RIGHT', 'FRONT_LEFT', 'BACK', 'BACK_LEFT', 'BACK_RIGHT')
]


@pytest.fixture(scope='module')
def toy_pair():
    """The toy of the distillation tests; processes that are started find it too."""
    folder = str(Path(__file__).parents[1] / 'distillation')
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module('toy_pair')


@pytest.fixture
def write_config(toy_pair, tmp_path):
    """A function that writes a distiller's config; no checkpoint that it names exists.

    The teacher of equal width is a second student: its feature has the student's ten channels.
    """
    student = dict(type='ciba_bev.ToyCameraStudent')

    def write(bottleneck: bool = True, equal_widths: bool = True) -> Path:
        teacher = dict(config=student, tap=toy_pair.STUDENT_TAP, inputs=['camera'])
        if not equal_widths:
            lidar = dict(type='ciba_bev.ToyLidarTeacher')
            teacher = dict(config=lidar, tap=toy_pair.TEACHER_TAP, inputs=['lidar'])
        teacher['checkpoint'] = 'missing/teacher.pth'
        algorithm_1 = dict(
            type='ciba_bev.BottleneckTraining',
            teacher=teacher,
            student=dict(
                config=student,
                checkpoint='missing/student.pth',
                tap=toy_pair.STUDENT_TAP,
                inputs=['camera'],
            ),
            bottleneck=dict(
                type='ciba_bev.VariationalBottleneck',
                in_channels=10 if equal_widths else toy_pair.TEACHER_CHANNELS,
                out_channels=toy_pair.STUDENT_CHANNELS,
            ),
            bottleneck_sizes=[8],
            feature_cache='missing/cache',
        )
        algorithm_2 = dict(
            type='ciba_bev.Distiller',
            student=student,
            student_inputs=['camera'],
            student_tap=toy_pair.STUDENT_TAP,
            teacher=teacher,
        )
        if bottleneck:
            config = toy_pair.write_config(tmp_path / 'bottleneck.py', algorithm_1)
            algorithm_2['bottleneck'] = dict(
                config=str(config), checkpoint='missing/bottleneck.pth', size=4
            )
        return toy_pair.write_config(tmp_path / 'distiller.py', algorithm_2)

    return write


def names(variants):
    return [variant.name for variant in variants]


def make_cost(part, seconds, peak):
    return benchmark.Cost(benchmark.Variant(part, part), seconds, peak)


@pytest.fixture
def comparison():
    """Costs whose ratios can be worked out in the head."""
    return benchmark.Comparison(
        make_cost('student', [3.0, 6.0, 30.0], 600 * 2**20),
        make_cost('teacher', [1.0, 2.0, 10.0], 400 * 2**20),
        [
            # 1.1, 1.0 and 1.2 of its turn's sum.
            make_cost('first', [4.4, 8.0, 48.0], 1200 * 2**20),
            make_cost('second', [2.0, 4.0, 20.0], 500 * 2**20),
        ],
        'made up',
        'on paper',
    )


def test_variants_of_a_code(write_config, tmp_path):
    cfg = Config.fromfile(write_config())
    prepared, variants = benchmark.prepare(cfg, [2, 8], tmp_path)
    assert names(variants) == [
        'student, training step',
        'teacher, feature',
        'distiller, all channels',
        'distiller, H = 2',
        'distiller, H = 8',
    ]
    # What was given stays as it is.
    assert cfg.model.teacher.checkpoint == 'missing/teacher.pth'
    assert Path(prepared.model.teacher.checkpoint).is_file()


def test_variants_of_features_of_different_widths(write_config, tmp_path):
    cfg = Config.fromfile(write_config(equal_widths=False))
    _, variants = benchmark.prepare(cfg, None, tmp_path)
    assert names(variants)[2:] == ['distiller, H = 4']


def test_variants_without_a_bottleneck(write_config, tmp_path):
    cfg = Config.fromfile(write_config(bottleneck=False))
    _, variants = benchmark.prepare(cfg, None, tmp_path)
    assert names(variants)[2:] == ['distiller, all channels']


def test_pretrained_weights_are_not_fetched(write_config, tmp_path):
    cfg = Config.fromfile(write_config())
    fetched = dict(type='Pretrained', checkpoint='https://localhost/resnet.pth')
    cfg.model.student.parts = [dict(init_cfg=fetched, depth=50)]
    prepared, _ = benchmark.prepare(cfg, None, tmp_path)
    assert prepared.model.student.parts == [dict(init_cfg=None, depth=50)]


def test_each_step_does_its_part(write_config, toy_pair, tmp_path, monkeypatch):
    prepared, variants = benchmark.prepare(Config.fromfile(write_config()), [2], tmp_path)
    models = []
    build_optimizer = benchmark.build_optim_wrapper

    def remember(model, config):
        models.append(model)
        return build_optimizer(model, config)

    monkeypatch.setattr(benchmark, 'build_optim_wrapper', remember)
    steps = [benchmark.build_step(prepared, variant, CPU) for variant in variants]
    assert [type(model).__name__ for model in models] == ['ToyCameraStudent'] + 2 * ['Distiller']
    assert [model.bottleneck_size for model in models[1:]] == [None, 2]
    before = [copy.deepcopy(model.state_dict()) for model in models]
    student, teacher, everything, code = (step(toy_pair.make_batch(0, 1)) for step in steps)
    assert set(student) == {'loss', 'loss_cls'}
    assert teacher.shape == (2, 10, 8, 8)
    assert not teacher.requires_grad
    assert set(everything) == set(code) == {'loss', 'loss_cls', 'loss_distillation'}
    for model, weights in zip(models, before):
        assert not torch.equal(model.state_dict()['head.weight'], weights['head.weight'])


def test_variants_take_turns_on_the_same_batches():
    calls = []

    def step_of(name):
        def step(batch):
            calls.append((name, batch['number']))
            batch['number'] = 'spoilt'

        return step

    batches = [{'number': 0}, {'number': 1}]
    steps = {name: step_of(name) for name in 'abc'}
    seconds = benchmark.measure_seconds(steps, batches, steps=3, warmup=2, device=CPU)
    assert calls == [(name, number) for number in (0, 1, 0, 1, 0) for name in 'abc']
    assert {name: len(values) for name, values in seconds.items()} == {'a': 3, 'b': 3, 'c': 3}
    assert batches == [{'number': 0}, {'number': 1}]


def test_ratios_compare_turn_by_turn(comparison):
    first, second = comparison.distillers
    assert comparison.time_ratio(first) == pytest.approx(1.1)
    assert comparison.time_ratio(second) == pytest.approx(0.5)
    assert comparison.memory_ratio(first) == pytest.approx(1.2)
    assert comparison.time_ratio(comparison.student) == pytest.approx(0.75)


def test_verdict_names_the_dearest(comparison):
    assert comparison.verdict() == (
        'time at most 1.100 (first), within the limit of 1.15; '
        'memory at most 1.200 (first), BEYOND the limit of 1.15.'
    )


def test_markdown_is_a_table(comparison, capsys):
    benchmark.show(comparison, 'title', markdown=True)
    title, setting, data, blank, *table, end, verdict = capsys.readouterr().out.splitlines()
    assert (title, setting, data, blank, end) == (
        'title',
        'on paper',
        'Batches: made up.',
        '',
        '',
    )
    assert verdict == comparison.verdict()
    assert {line.count('|') for line in table} == {7}
    assert table[1] == '|---|---:|---:|---:|---:|---:|'
    cells = [cell.strip() for cell in table[5].split('|')[1:-1]]
    assert cells == [
        'first',
        '8,000.0',
        '6,200-28,000',
        '1.100',
        '1,200',
        '1.200',
    ]


def test_terminal_table_is_not_folded(comparison, capsys):
    benchmark.show(comparison, 'title', markdown=False)
    lines = capsys.readouterr().out.splitlines()
    assert any('first' in line and '1,200 ' in line for line in lines)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(steps=1), 'steps is 1'),
        (dict(warmup=-1), 'warmup -1'),
        (dict(batch_size=0), 'batch_size is 0'),
        (dict(sizes=[16]), 'bottleneck of 16 channels does not fit'),
    ],
)
def test_bad_arguments(write_config, options, message):
    with pytest.raises(CibaError, match=message):
        benchmark.compare(Config.fromfile(write_config()), **options)


def test_a_config_without_a_code_has_no_sizes(write_config):
    with pytest.raises(CibaError, match='Leave --sizes out'):
        benchmark.compare(Config.fromfile(write_config(bottleneck=False)), sizes=[4])


def test_a_missing_bottleneck_config(write_config):
    cfg = Config.fromfile(write_config())
    cfg.model.bottleneck.config = 'missing/bottleneck.py'
    with pytest.raises(CibaError, match=r'there is no missing/bottleneck\.py'):
        benchmark.compare(cfg)


def test_a_config_that_distils_nothing(toy_pair, tmp_path):
    config = toy_pair.write_config(tmp_path / 'a.py', dict(type='ciba_bev.ToyCameraStudent'))
    with pytest.raises(CibaError, match='ToyCameraStudent, which distils nothing'):
        benchmark.compare(Config.fromfile(config))


@pytest.mark.parametrize(
    'words', [['--sizes', '4,x'], ['--sizes', '0'], ['--image-size', '8'], ['--steps', 'many']]
)
def test_bad_words(words, capsys):
    with pytest.raises(SystemExit) as ending:
        benchmark.parse_args(['config.py', *words])
    assert ending.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_missing_data_are_simulated(tmp_path):
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
    cfg = Config(dict(train_dataloader=loader, default_scope='mmdet3d'))
    batches, origin = benchmark.load_batches(cfg, 2, (64, 36), tmp_path)
    assert origin == 'simulated frames with images of 64 x 36, as there are no data in missing/'
    assert [len(batch['data_samples']) for batch in batches] == [2, 2]
    assert batches[0]['inputs']['img'][1].shape == (6, 3, 36, 64)


@pytest.mark.slow
def test_whole_run(write_config, capsys):
    config = write_config()
    threads = torch.get_num_threads()
    words = ['--steps', '2', '--warmup', '1', '--batch-size', '3', '--threads', '1', '--markdown']
    try:
        benchmark.main([str(config), '--sizes', '2,4', *words, '--traceback'])
    finally:
        torch.set_num_threads(threads)
    out = capsys.readouterr().out
    assert 'threads: 1, batch size: 3' in out
    assert f'the training data of {config}' in out
    rows = [line.split('|')[1:-1] for line in out.splitlines() if line.startswith('|')][2:]
    assert [row[0].strip() for row in rows] == [
        'student, training step',
        'teacher, feature',
        'sum of both',
        'distiller, all channels',
        'distiller, H = 2',
        'distiller, H = 4',
    ]
    assert all(float(row[column]) > 0 for row in rows for column in (3, 5))


def test_mixed_precision_needs_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    config = str(benchmark.Path(__file__).resolve().parents[2] / 'configs/mse_bevformer_s_r50.py')
    with pytest.raises(SystemExit):
        benchmark.main([config, '--amp'])
    assert '--amp needs a GPU' in capsys.readouterr().err
