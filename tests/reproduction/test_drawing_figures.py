"""What the figures show is what they are given."""

import json

import numpy as np
import pytest

from ciba_bev.errors import CibaError
from ciba_bev.reproduction.classification_figures import (
    draw_boxes,
    draw_feature_map,
    draw_size_sweep,
)
from ciba_bev.reproduction.synthetic_figures import (
    draw_figure_3,
    draw_six_panels,
    read_synthetic_results,
    tabulate_synthetic_results,
)

DIMS, REPEATS, FEATURES = (2, 4, 6), 2, 8


@pytest.fixture
def work_dir(tmp_path):
    """A synthetic experiment: with D_g = d, weights have d singular values, one more with the task.

    Members are ordered by D_g and then by repeat.
    """
    rng = np.random.default_rng(0)
    members = np.repeat(DIMS, REPEATS)
    index = np.arange(FEATURES)
    alone = np.where(index < members[:, None], 2.0, 1e-6)
    with_task = np.where(index < members[:, None] + 1, 2.0, 1e-6)
    content = {
        'general_dims': DIMS,
        'repeats': REPEATS,
        'weight_singular_values': [alone.tolist(), with_task.tolist()],
        'feature_singular_values': [(alone**2).tolist(), (with_task**2).tolist()],
        'accuracy': [(50 + 5 * members).tolist(), (60 + 5 * members).tolist()],
        'teacher_accuracy': rng.uniform(90, 95, len(members)).tolist(),
        'distillation_loss': (3.0 * members).tolist(),
        'limiting_loss': (2.0 * members).tolist(),
    }
    (tmp_path / 'synthetic.json').write_text(json.dumps(content))
    # A training that was stopped after step 20, and went on after a checkpoint of step 10.
    for run, steps in (('first', (10, 20)), ('second', (20, 30))):
        folder = tmp_path / run / 'vis_data'
        folder.mkdir(parents=True)
        lines = [
            {'step': step, **{f'{part}_{d}': d / step for d in DIMS for part in PARTS}, 'lr': 1}
            for step in steps
        ]
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    return tmp_path


PARTS = ('general', 'specific')


def test_results_are_read_by_shared_dimension_and_repeat(work_dir):
    results = read_synthetic_results(work_dir)
    assert results.weight_spectra.shape == (2, len(DIMS), REPEATS, FEATURES)
    assert results.accuracy[1].tolist() == [[70, 70], [80, 80], [90, 90]]
    steps, losses = results.curves['specific_4']
    assert steps.tolist() == [10, 20, 30]
    assert losses.tolist() == pytest.approx([0.4, 0.2, 4 / 30])
    assert len(results.curves) == 2 * len(DIMS)


def test_the_table_of_a_synthetic_experiment(work_dir):
    results = read_synthetic_results(work_dir)
    header, body = tabulate_synthetic_results(results)
    teacher = results.teacher_accuracy.mean(1)
    assert header[:4] == ['general dims', 'rank alone', 'rank with task', 'loss ratio']
    assert body == [
        [str(d), f'{d}.0', f'{d + 1}.0', '1.500', f'{50 + 5 * d}.00', f'{60 + 5 * d}.00', shown]
        for d, shown in zip(DIMS, (f'{mean:.2f}' for mean in teacher))
    ]


@pytest.mark.parametrize('file', ['synthetic.json', 'vis_data/scalars.json'])
def test_an_unfinished_experiment_is_named(work_dir, file):
    for path in work_dir.rglob(file.split('/')[-1]):
        path.unlink()
    with pytest.raises(CibaError, match=file):
        read_synthetic_results(work_dir)


def test_figure_3_and_the_six_panels(work_dir):
    results = read_synthetic_results(work_dir)
    three = draw_figure_3(results).axes
    assert [axes.get_title('left') for axes in three] == [
        '(a) weights, distillation alone',
        '(b) weights, distillation and task',
        '(c) distillation loss, by part',
    ]
    six = draw_six_panels(results, with_limit=True).axes
    assert [axes.get_title('left')[:3] for axes in six] == [f'({letter})' for letter in 'abcdef']
    assert six[2].get_title('left') == '(c) features, distillation alone'
    # Each D_g has a vertical line at its value and the logarithms of its spectrum.
    for axes, scale in ((three[1], 1), (six[1], 1), (six[3], 2)):
        drawn = axes.lines[1::2]
        for d, line in zip(DIMS, drawn):
            ranks, logarithms = line.get_data()
            assert ranks.tolist() == list(range(1, FEATURES + 1))
            expected = [scale * np.log10(2.0)] * (d + 1) + [scale * -6] * (FEATURES - d - 1)
            assert logarithms == pytest.approx(expected)
    accuracy = {c.get_label(): c.lines[0].get_ydata() for c in six[4].containers}
    assert accuracy['student, distillation alone'] == pytest.approx([60, 70, 80])
    assert accuracy['teacher'] == pytest.approx(results.teacher_accuracy.mean(1))
    # The loss of the middle D_g, and the limit, which only MSE on orthogonal data has.
    specific, general, limit = six[5].lines
    assert limit.get_ydata() == [8.0, 8.0]
    for line in (specific, general):
        assert line.get_ydata() == pytest.approx([0.4, 0.2, 4 / 30])
    assert len(draw_six_panels(results).axes[5].lines) == 2


@pytest.mark.parametrize('seeds', [1, 2])
def test_a_sweep_shows_means_deviations_and_the_baseline(seeds):
    scores = {8: [60.0, 62.0][:seeds], 2: [50.0, 54.0][:seeds]}
    (axes,) = draw_size_sweep({'one': scores}, {'one': [40.0, 44.0][:seeds]}, 'Score').axes
    (drawn,) = axes.containers
    mean, _, bars = drawn.lines
    assert [text.get_text() for text in axes.get_xticklabels()] == ['2', '8']
    assert mean.get_ydata() == pytest.approx([50, 60] if seeds == 1 else [52, 61])
    assert axes.lines[-1].get_ydata() == pytest.approx([40, 40] if seeds == 1 else [42, 42])
    if seeds == 1:
        assert not bars
    else:
        lower, upper = bars[0].get_segments()[0][:, 1]
        # Of 50 and 54, divided by n - 1.
        assert (upper - lower) / 2 == pytest.approx(8**0.5)


def test_boxes_have_a_panel_for_each_column_of_scores():
    groups = {
        f'panel {number}': {'MSE': [1.0, 2.0, number], 'MSE + CIBA (8)': [4.0, 5.0, 9.0]}
        for number in range(3, 6)
    }
    *panels, unused = draw_boxes(groups).axes
    assert [axes.get_title('left') for axes in panels] == list(groups)
    assert not unused.get_visible()
    for axes in panels:
        assert [text.get_text() for text in axes.get_xticklabels()] == ['MSE', 'MSE + CIBA (8)']
        medians = [line.get_data() for line in axes.lines if line.get_zorder() > 2]
        assert [(np.mean(x), *set(y)) for x, y in medians] == [(1, 2.0), (2, 5.0)]
        plain, ciba = (patch.get_facecolor() for patch in axes.patches)
        assert plain != ciba


def test_the_feature_map_repeats_the_teacher_behind_each_student():
    pytest.importorskip('sklearn')
    rng = np.random.default_rng(0)
    features = {name: rng.standard_normal((8, 20)) for name in ('teacher', 'one', 'two')}
    teacher, one, two = draw_feature_map(features).axes
    (points,) = teacher.collections
    for axes in (one, two):
        behind, own = axes.collections
        assert np.array_equal(behind.get_offsets(), points.get_offsets())
        assert own.get_offsets().shape == (8, 2)
        assert not np.array_equal(own.get_offsets(), points.get_offsets())
    assert two.get_title('left') == '(c) two'
