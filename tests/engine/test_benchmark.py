"""What a distillation step costs: that everything is measured, in turns, and put together right."""

from __future__ import annotations

import copy
import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from ciba_bev.engine import benchmark, benchmark_cases
from ciba_bev.errors import CibaError

CPU = torch.device('cpu')


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


def names(cases):
    return [case.name for case in cases]


STUDENT, TEACHER = names([benchmark.STUDENT, benchmark.TEACHER])
SECONDS = {
    STUDENT: [3.0, 6.0, 30.0],
    TEACHER: [1.0, 2.0, 10.0],
    # 1.1, 1.0 and 1.2 of its turn's sum.
    'first': [4.4, 8.0, 48.0],
    'second': [2.0, 4.0, 20.0],
}
MEBIBYTES = {STUDENT: 600, TEACHER: 400, 'first': 1200, 'second': 500}


@pytest.fixture
def table():
    """Costs whose ratios can be worked out in the head, on a CPU."""
    peaks = {name: size * 2**20 for name, size in MEBIBYTES.items()}
    return benchmark.summarize(SECONDS, peaks, dict.fromkeys(SECONDS))


def test_cases_of_a_code(write_config):
    cfg = Config.fromfile(write_config())
    assert names(benchmark.list_cases(cfg, [2, 8])) == [
        'student, training step',
        'teacher, feature',
        'distiller, all channels',
        'distiller, H = 2',
        'distiller, H = 8',
    ]


def test_cases_of_features_of_different_widths(write_config):
    cfg = Config.fromfile(write_config(equal_widths=False))
    assert names(benchmark.list_cases(cfg))[2:] == ['distiller, H = 4']


def test_cases_without_a_bottleneck(write_config):
    cfg = Config.fromfile(write_config(bottleneck=False))
    assert names(benchmark.list_cases(cfg))[2:] == ['distiller, all channels']


@pytest.mark.parametrize('several', [False, True])
def test_pretrained_weights_are_not_fetched(write_config, toy_pair, monkeypatch, several):
    fetched = dict(type='Pretrained', checkpoint='https://localhost/resnet.pth')
    build = toy_pair.ToyCameraStudent.__init__

    def initialize(self):
        build(self)
        self.init_cfg = [dict(type='Normal', layer='Linear'), fetched] if several else fetched

    monkeypatch.setattr(toy_pair.ToyCameraStudent, '__init__', initialize)
    cfg = Config.fromfile(write_config())
    for case in (benchmark.STUDENT, benchmark.BenchmarkCase('', 'distiller', 2)):
        step = benchmark.build_step(cfg, case, CPU)
        assert step(toy_pair.make_batch(0, 1))['loss'] > 0


def test_each_step_does_its_part(write_config, toy_pair, monkeypatch):
    cfg = Config.fromfile(write_config())
    models = []
    build_optimizer = benchmark_cases.build_optim_wrapper

    def remember(model, config):
        models.append(model)
        return build_optimizer(model, config)

    monkeypatch.setattr(benchmark_cases, 'build_optim_wrapper', remember)
    cases = benchmark.list_cases(cfg, [2])
    steps = [benchmark.build_step(cfg, case, CPU) for case in cases]
    assert [type(model).__name__ for model in models] == ['ToyCameraStudent'] + 2 * ['Distiller']
    assert [model.bottleneck_size for model in models[1:]] == [None, 2]
    before = [copy.deepcopy(model.state_dict()) for model in models]
    student, teacher, everything, code = (step(toy_pair.make_batch(0, 1)) for step in steps)
    assert set(student) == {'loss', 'loss_cls'}
    assert teacher.shape == (2, 10, 8, 8)
    assert not teacher.requires_grad
    assert set(everything) == set(code) == {'loss', 'loss_cls', 'loss_distillation'}
    assert models[2].teacher.encoder.bottleneck_size == 2
    for model, weights in zip(models, before):
        assert not torch.equal(model.state_dict()['head.weight'], weights['head.weight'])


def test_cases_take_turns_on_the_same_batches():
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


def test_ratios_compare_turn_by_turn(table):
    assert table['of sum'].to_dict() == pytest.approx(
        {STUDENT: 0.75, TEACHER: 0.25, benchmark.SUM: 1.0, 'first': 1.1, 'second': 0.5}
    )
    assert table['median, ms'][benchmark.SUM] == pytest.approx(8000)
    assert table['peak of sum']['first'] == pytest.approx(1.2)
    assert 'GPU busy' not in table


def test_gpu_is_busy_for_a_part_of_the_median():
    busy = {STUDENT: 3.0, TEACHER: 1.0, 'first': 6.0, 'second': None}
    table = benchmark.summarize(SECONDS, MEBIBYTES, busy)
    assert table['GPU busy'].dropna().to_dict() == pytest.approx(
        {STUDENT: 0.5, TEACHER: 0.5, benchmark.SUM: 0.5, 'first': 0.75}
    )
    busy[TEACHER] = None
    assert set(benchmark.summarize(SECONDS, MEBIBYTES, busy)['GPU busy'].dropna().index) == {
        STUDENT,
        'first',
    }


def test_verdict_names_the_most_expensive(table):
    assert benchmark.verdict(table) == (
        'time at most 1.100 (first), within the limit of 1.15; '
        'memory at most 1.200 (first), BEYOND the limit of 1.15.'
    )


def test_markdown_is_a_table(table, capsys):
    benchmark.show(table, 'title', ['on paper', 'made up'], markdown=True)
    title, *notes, blank, header, line, one, two, three, four, five, end, verdict = (
        capsys.readouterr().out.splitlines()
    )
    assert (title, notes, blank, end) == ('title', ['on paper', 'made up'], '', '')
    assert verdict == benchmark.verdict(table)
    assert {row.count('|') for row in (header, line, one, two, three, four, five)} == {7}
    assert line == '| --- | ---: | ---: | ---: | ---: | ---: |'
    assert four == '| first | 8,000.0 | 6,200-28,000 | 1.100 | 1,200 | 1.200 |'


def test_a_gpu_that_is_not_watched_has_no_share(capsys):
    busy = {STUDENT: 3.0, TEACHER: None, 'first': 6.0, 'second': 4.0}
    table = benchmark.summarize(SECONDS, MEBIBYTES, busy)
    benchmark.show(table, '', [], markdown=True)
    rows = [line.split(' | ') for line in capsys.readouterr().out.splitlines() if '|' in line]
    assert [row[4] for row in rows[2:]] == ['50%', '', '', '75%', '100%']


def test_terminal_table_is_not_folded(table, capsys):
    benchmark.show(table, 'title', [], markdown=False)
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


def test_too_few_samples_for_a_batch(write_config):
    cfg = Config.fromfile(write_config())
    cfg.train_dataloader.drop_last = True
    with pytest.raises(CibaError, match='no batch of 9 in the training data of'):
        benchmark.compare(cfg, batch_size=9)


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
    assert re.search(
        r'Loader, one process: [\d.]+ samples per second, [\d.]+ CPU-seconds per sample', out
    )
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
    config = str(Path(__file__).resolve().parents[2] / 'configs/mse_bevformer_s_r50.py')
    with pytest.raises(SystemExit):
        benchmark.main([config, '--amp'])
    assert '--amp needs a GPU' in capsys.readouterr().err
