"""The quickstart's page: its words follow from the numbers, and nothing is left out silently."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import PIL.Image
import pytest

from ciba_bev.quickstart.report import (
    SPREADS,
    ReportRow,
    describe_outcome,
    read_scalars,
    write_report,
)

PAPER = {'teacher': 66.7, 'student': 43.4, 'mse': 43.8, 'ciba': 44.8}
SPECTRUM = [4.0, 2.0, 1.0]
ROWS = dict(teacher=0.4, student=0.25, mse=0.26, ciba=0.3)
VOID = {'meta', 'img', 'br', 'link'}


def make_row(key: str, nds: float | None, rank: float | None = 5.0) -> ReportRow:
    metrics = {'NDS': nds, 'mAP': None if nds is None else nds / 2, 'mATE': 0.5}
    return ReportRow(key, f'<{key}>', f'configs/{key}.py', metrics, rank, 3.0, 1.0, PAPER[key])


def make_rows(**scores: float | None) -> list[ReportRow]:
    return [make_row(key, nds) for key, nds in scores.items()]


class Page(HTMLParser):
    """Collects text and sources, and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.text, self.sources, self.ids = [], '', [], set()

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.ids.update(value for name, value in attributes if name == 'id')
        self.sources += [value for name, value in attributes if name in ('src', 'href')]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += ' ' * (tag in ('td', 'th'))

    def handle_data(self, data):
        self.text += data


def make_page(work_dir, rows: list[ReportRow]) -> Page:
    write_report(work_dir / 'report.html', work_dir, rows, 20.0)
    page = Page()
    page.feed((work_dir / 'report.html').read_text(encoding='utf-8'))
    assert page.open == []
    page.text = ' '.join(page.text.split())
    return page


def write_bottlenecks(work_dir, sizes=(2, 4), suggested=4.0) -> None:
    """Write what the validation of Algorithm 1 writes, with a different value everywhere."""
    metrics = {'student/dynamic': 0.25, 'student/effective_rank': 7.3}
    metrics['teacher/effective_rank'] = 14.8
    if suggested is not None:
        metrics['suggested_size'] = suggested
    for size in sizes:
        metrics[f'h{size}/explained'] = 0.5 + size / 1000
        metrics[f'h{size}/explained_dynamic'] = -size / 1000
        metrics[f'h{size}/regularization'] = size + 0.75
        metrics[f'h{size}/effective_rank'] = size + 0.5
        metrics[f'h{size}/generation'] = 0.5
    content = {
        'metrics': metrics,
        'decoded_spectra': {f'h{size}': SPECTRUM for size in sizes},
        'feature_spectra': {'teacher': SPECTRUM, 'student': SPECTRUM},
        'largest_gains': None if len(sizes) == 1 else {str(size): 0.3 for size in sizes[:-1]},
        'threshold': None if len(sizes) == 1 else 0.1,
    }
    file = work_dir / 'bottleneck' / 'bottlenecks.json'
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))


@pytest.fixture
def work_dir(tmp_path):
    """What a finished quickstart leaves, in small."""
    write_bottlenecks(tmp_path)
    models = [{'label': key, 'singular_values': SPECTRUM} for key in ('student', 'mse', 'ciba')]
    (tmp_path / 'collapse').mkdir()
    (tmp_path / 'collapse' / 'collapse.json').write_text(json.dumps({'models': models}))
    for key in (*PAPER, 'bottleneck'):
        logs = tmp_path / key / '20260101' / 'vis_data'
        logs.mkdir(parents=True)
        parts = {'loss_distillation': 0.5, 'h2.loss_generation': 2.0, 'h4.loss_generation': 1.0}
        lines = [{'loss': 3.0 - step, 'step': step, **parts} for step in (1, 2)]
        (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    for grey, key in enumerate(PAPER):
        pictures = tmp_path / 'pictures' / key
        pictures.mkdir(parents=True)
        cv2.imwrite(str(pictures / 'frame.png'), np.full((1500, 3000, 3), 50 * grey, np.uint8))
    return tmp_path


def test_the_page_is_whole_and_needs_nothing_else(work_dir):
    page = make_page(work_dir, make_rows(**ROWS))
    # Spectra twice, losses three times, and one picture of the frame by every model.
    assert len(page.sources) == 5 + 4
    assert all(source.startswith('data:') for source in page.sources)
    # Titles come from outside and are text, not tags.
    assert '<ciba>' in page.text
    for text in ('30.0', '44.8', 'in 20 minutes', 'Frame 1 of 1'):
        assert text in page.text
    assert 'missing' not in page.text


def test_pictures_of_a_frame_are_side_by_side_in_the_order_of_the_rows(work_dir):
    page = make_page(work_dir, make_rows(**ROWS))
    encoded = [source.split(',')[1] for source in page.sources if 'image/jpeg' in source]
    pictures = [PIL.Image.open(io.BytesIO(base64.b64decode(content))) for content in encoded]
    assert [picture.size for picture in pictures] == [(1400, 700)] * 4
    greys = [np.asarray(picture).mean() for picture in pictures]
    np.testing.assert_allclose(greys, [0, 50, 100, 150], atol=2)


def test_every_number_stands_beside_its_spread(work_dir):
    page = make_page(work_dir, [make_row('student', 0.25, 5.0), make_row('ciba', 0.302, None)])
    # Half the spread, so that intervals overlap where a run does not tell models apart.
    assert '<student> 25.0 ± 1.0 12.5 5.0 ± 0.7 3.0 43.4' in page.text
    assert '<ciba> 30.2 ± 1.0 15.1 \N{EN DASH} 3.0 44.8' in page.text
    assert 'The spread of mAP has not been measured' in page.text


@pytest.mark.parametrize('name', SPREADS)
def test_the_spread_covers_the_trainings_that_the_page_quotes(work_dir, name):
    text = make_page(work_dir, make_rows(**ROWS)).text
    quoted = re.search(rf'{SPREADS[name]} (?:NDS|in {name}).*? \((.*?)\)', text).group(1)
    groups = [
        [float(value) for value in re.findall(r'\d+\.\d', part)] for part in quoted.split(';')
    ]
    widest = max(max(group) - min(group) for group in groups)
    assert len(groups) > 1
    assert widest <= SPREADS[name] < widest + 0.2


def test_algorithm_1_is_shown_for_every_size(work_dir):
    page = make_page(work_dir, make_rows(**ROWS))
    assert 'H = 2 H = 4' in page.text
    for row in (
        "predicts from the teacher's. 50.2 50.4",
        'encodes the position of a cell. \N{MINUS SIGN}0.2 \N{MINUS SIGN}0.4',
        "tells about the teacher's feature. 2.75 4.75",
        "BEV feature uses 7.3, the teacher's 14.8. 2.5 4.5",
        'suggested size: H = 4',
    ):
        assert row in page.text
    assert '25% of the variance' in page.text
    assert 'advice' in page.ids


@pytest.mark.parametrize(
    ('sizes', 'suggested', 'said'),
    [
        ((2, 4), 2.0, 'size: H = 2 The smallest size from which no larger one lifts the spectrum'),
        ((2, 4), 4.0, 'size: H = 4 The largest size there is: the spectra of the predictions'),
        ((8,), None, 'size: none A single size cannot show whether it is enough'),
    ],
)
def test_the_suggested_size_is_explained(work_dir, sizes, suggested, said):
    write_bottlenecks(work_dir, sizes, suggested)
    page = make_page(work_dir, make_rows(**ROWS))
    assert said in page.text
    assert 'missing' not in page.text.replace('Generation losses missing', '')


def test_what_is_not_there_is_said(tmp_path):
    text = make_page(tmp_path, make_rows(student=0.25)).text
    for name in ('bottlenecks.json', 'collapse.json', 'scalars.json', 'pictures/<model>'):
        assert name in text


def test_a_picture_that_is_not_there_or_damaged_costs_only_itself(work_dir):
    (work_dir / 'pictures' / 'mse' / 'frame.png').unlink()
    (work_dir / 'pictures' / 'ciba' / 'frame.png').write_bytes(b'half a pic')
    page = make_page(work_dir, make_rows(**ROWS))
    assert sum('image/jpeg' in source for source in page.sources) == 2
    for key in ('mse', 'ciba'):
        assert re.search(rf'<{key}> missing: .*pictures/{key}/frame.png', page.text)


APART = 'this run does not tell them apart'


@pytest.mark.parametrize(
    ('scores', 'expected'),
    [
        (
            dict(student=0.3, mse=0.34),
            'By NDS, the student distilled with MSE is better than the undistilled student by 4.0 '
            'points.',
        ),
        (
            dict(student=0.3, mse=0.27),
            'By NDS, the undistilled student is better than the student distilled with MSE by 3.0 '
            'points.',
        ),
        (
            dict(student=0.3, mse=0.321),
            'By NDS, the student distilled with MSE is better than the undistilled student by 2.1 '
            'points.',
        ),
        (
            dict(student=0.3, mse=0.32),
            'The NDS of the student distilled with MSE and the undistilled student differs by 2.0: '
            f'{APART}.',
        ),
        (
            dict(student=0.3, mse=0.285),
            'The NDS of the student distilled with MSE and the undistilled student differs by 1.5: '
            f'{APART}.',
        ),
        (
            dict(student=0.3, ciba=None),
            'The NDS of the student distilled with CIBA and the undistilled student cannot be '
            'compared: not both were measured.',
        ),
        (
            dict(student=0.3, teacher=float('nan')),
            'The NDS of the teacher and the undistilled student cannot be compared: not both were '
            'measured.',
        ),
    ],
)
def test_words_follow_the_numbers(scores, expected):
    assert describe_outcome(make_rows(**scores))[0] == expected


@pytest.mark.parametrize(
    ('ranks', 'expected'),
    [
        (
            (8.0, 5.0),
            'The effective rank of the undistilled student is higher than that of the student '
            'distilled with MSE by 3.0.',
        ),
        (
            (5.0, 6.5),
            'The effective rank of the student distilled with MSE is higher than that of the '
            'undistilled student by 1.5.',
        ),
        (
            (5.0, 6.4),
            'The effective rank of the student distilled with MSE and the undistilled student '
            f'differs by 1.4: {APART}.',
        ),
    ],
)
def test_effective_ranks_are_compared_like_scores(ranks, expected):
    rows = [make_row(key, 0.3, rank) for key, rank in zip(('student', 'mse'), ranks)]
    assert describe_outcome(rows)[1:] == [expected]


def test_models_within_the_spread_are_never_ordered():
    random = np.random.default_rng(0)
    for _ in range(200):
        scores = dict(zip(PAPER, random.uniform(0.28, 0.32, 4)))
        ranks = dict(zip(PAPER, random.uniform(5, 8, 4)))
        rows = [make_row(key, scores[key], ranks[key]) for key in PAPER]
        sentences = describe_outcome(rows)
        pairs = [('mse', 'student'), ('ciba', 'student'), ('ciba', 'mse')]
        changes = [100 * (scores['teacher'] - scores['student']) / SPREADS['NDS']]
        changes += [100 * (scores[one] - scores[two]) / SPREADS['NDS'] for one, two in pairs]
        changes += [(ranks[one] - ranks[two]) / SPREADS['effective rank'] for one, two in pairs]
        assert len(sentences) == len(changes)
        for sentence, change in zip(sentences, changes):
            # Numbers are compared as they are shown, to one digit.
            if abs(abs(change) - 1) > 0.05:
                assert (APART in sentence) == (abs(change) < 1)
                assert (' better ' in sentence or ' higher ' in sentence) == (abs(change) > 1)


def test_resumed_trainings_are_joined(tmp_path):
    for name, steps in (('1', (1, 2, 3)), ('2', (3, 4))):
        logs = tmp_path / name / 'vis_data'
        logs.mkdir(parents=True)
        lines = [json.dumps({'loss': float(name), 'step': step}) for step in steps]
        lines.append(json.dumps({'NDS': 0.3, 'step': 9}))
        (logs / 'scalars.json').write_text('\n'.join(lines) + '\n{"loss": 1')
    values = {step: scalars['loss'] for step, scalars in read_scalars(tmp_path).items()}
    assert values == {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0}
