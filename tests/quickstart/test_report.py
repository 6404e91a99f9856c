"""The quickstart's page: its words follow from the numbers, and nothing is left out silently."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from ciba_bev.quickstart.report import (
    ReportRow,
    describe_outcome,
    read_scalars,
    write_report,
)

PAPER = {'teacher': 66.7, 'student': 43.4, 'mse': 43.8, 'ciba': 44.8}
VOID = {'meta', 'img', 'br', 'link'}


def make_row(key: str, nds: float | None, rank: float | None = 5.0) -> ReportRow:
    metrics = {'NDS': nds, 'mAP': None if nds is None else nds / 2, 'mATE': 0.5}
    return ReportRow(key, f'<{key}>', f'configs/{key}.py', metrics, rank, 0.1, 3.0, 1.0, PAPER[key])


def make_rows(**scores: float | None) -> list[ReportRow]:
    return [make_row(key, nds) for key, nds in scores.items()]


class Page(HTMLParser):
    """Collects text and sources, and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.text, self.sources = [], '', []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ('src', 'href')]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read_page(path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding='utf-8'))
    assert page.open == []
    return page


@pytest.fixture
def work_dir(tmp_path):
    """What a finished quickstart leaves, in small."""
    spectrum = [4.0, 2.0, 1.0]
    metrics = {'suggested_size': 4.0, 'student/dynamic': 0.25}
    for size in (2, 4):
        names = ('generation', 'explained', 'explained_dynamic', 'regularization')
        metrics[f'h{size}/effective_rank'] = 1.5
        metrics.update({f'h{size}/{name}': 0.5 for name in names})
    bottlenecks = {
        'metrics': metrics,
        'decoded_spectra': {'h2': spectrum, 'h4': spectrum},
        'feature_spectra': {'teacher': spectrum, 'student': spectrum},
        'largest_gains': {'2': 0.3},
        'threshold': 0.1,
    }
    collapse = {
        'models': [
            {'label': key, 'singular_values': spectrum, 'effective_rank': 2.6}
            for key in ('student', 'mse', 'ciba')
        ]
    }
    for name, content in (('bottleneck/bottlenecks', bottlenecks), ('collapse/collapse', collapse)):
        file = tmp_path / f'{name}.json'
        file.parent.mkdir()
        file.write_text(json.dumps(content))
    for key in (*PAPER, 'bottleneck'):
        logs = tmp_path / key / '20260101' / 'vis_data'
        logs.mkdir(parents=True)
        parts = {'loss_distillation': 0.5, 'h2.loss_generation': 2.0, 'h4.loss_generation': 1.0}
        lines = [{'loss': 3.0 - step, 'step': step, **parts} for step in (1, 2)]
        (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
        pictures = tmp_path / 'pictures' / key
        pictures.mkdir(parents=True)
        cv2.imwrite(str(pictures / 'frame.png'), np.full((40, 60, 3), 90, np.uint8))
    record = {'minutes': 1.5, 'peak_memory_gb': 0.5}
    (tmp_path / 'train_mse.done.json').write_text(json.dumps(record))
    return tmp_path


def test_the_page_is_whole_and_needs_nothing_else(work_dir):
    rows = make_rows(teacher=0.4, student=0.25, mse=0.26, ciba=0.3)
    write_report(work_dir / 'report.html', work_dir, rows, 20.0)
    page = read_page(work_dir / 'report.html')
    assert page.sources
    assert all(source.startswith('data:') for source in page.sources)
    # Titles come from outside and are text, not tags.
    assert '<ciba>' in page.text
    for text in (
        '30.0',
        '44.8',
        '+1.4',
        '+5.0',
        'H = 4 (proposed)',
        '75% of the variance',
        'train_mse',
        '20 min',
    ):
        assert text in page.text
    assert 'missing' not in page.text


def test_what_is_not_there_is_said(tmp_path):
    write_report(tmp_path / 'report.html', tmp_path, make_rows(student=0.25), 1.0)
    text = read_page(tmp_path / 'report.html').text
    for name in ('bottlenecks.json', 'collapse.json', 'scalars.json', 'pictures', '*.done.json'):
        assert name in text


@pytest.mark.parametrize(
    ('scores', 'said', 'unsaid'),
    [
        (
            dict(student=0.3, mse=0.34),
            '<mse> against <student>: +4.0 NDS points, more than',
            'show',
        ),
        (dict(student=0.3, mse=0.319), '+1.9 NDS points. Seeds alone differ', 'more than the'),
        (dict(student=0.3, mse=0.28), '<mse> against <student>: \N{MINUS SIGN}2.0 NDS', 'does'),
        (
            dict(mse=0.26, student=0.3, ciba=0.3),
            '<ciba> against <mse>: +4.0',
            '<mse> against <ciba>',
        ),
        (dict(student=0.3, ciba=None), '<ciba> or <student> has no NDS', 'points'),
        (dict(student=None, ciba=0.4), 'nothing to compare with', '<ciba>'),
    ],
)
def test_words_follow_the_numbers(scores, said, unsaid):
    text = ' '.join(describe_outcome(make_rows(**scores)))
    assert said in text
    assert unsaid not in text


def test_ranks_are_compared_with_the_undistilled_student():
    rows = [make_row('student', 0.3, 8.0), make_row('mse', 0.3, 5.0), make_row('ciba', 0.3, None)]
    ranks = [sentence for sentence in describe_outcome(rows) if 'rank' in sentence]
    assert ranks == [
        'The BEV feature of <mse> has an effective rank of 5.0; without distillation it has 8.0.'
    ]


def test_resumed_trainings_are_joined(tmp_path):
    for name, steps in (('1', (1, 2, 3)), ('2', (3, 4))):
        logs = tmp_path / name / 'vis_data'
        logs.mkdir(parents=True)
        lines = [json.dumps({'loss': float(name), 'step': step}) for step in steps]
        lines.append(json.dumps({'NDS': 0.3, 'step': 9}))
        (logs / 'scalars.json').write_text('\n'.join(lines) + '\n{"loss": 1')
    values = {step: scalars['loss'] for step, scalars in read_scalars(tmp_path).items()}
    assert values == {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0}
