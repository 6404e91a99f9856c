"""Sizes of bottlenecks and students, against Appendix E.4 of the paper."""

from pathlib import Path

import torch

from ciba_bev.reproduction import complexity
from ciba_bev.reproduction.plan import Plan

PROJECT = Path(__file__).resolve().parents[2]


def test_sizes_are_the_papers(tmp_path, monkeypatch):
    called = []

    def run_once(losses):
        called.append(losses())
        return 0.125

    monkeypatch.setattr(complexity, '_time_step', run_once)
    # Sizes do not depend on it; a step takes a second.
    monkeypatch.setattr(complexity, '_BATCH', 1)
    header, body = complexity.measure_complexity(Plan(PROJECT, tmp_path))
    row = dict(zip(header, body[0]))
    # "2.1M vs. 13.1M", "more than six times fewer".
    assert f'{int(row["Student parameters"].replace(",", "")) / 1e6:.1f}' == '13.1'
    assert f'{int(row["Bottleneck parameters"].replace(",", "")) / 1e6:.1f}' == '2.1'
    assert float(row['ratio']) > 6
    assert row['Student step, ms'] == row['Bottleneck step, ms'] == '0.12'
    assert len(called) == 4
    assert all(value.requires_grad for losses in called for value in losses.values())


def test_a_step_has_a_backward_pass():
    layer = torch.nn.Linear(4, 1)
    inputs = torch.ones(8, 4)
    assert complexity._time_step(lambda: {'loss': layer(inputs).sum()}) > 0
    assert layer.weight.grad.abs().sum() > 0
