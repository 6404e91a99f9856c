"""Validation of Algorithm 1 against numbers computed from whole arrays."""

import datetime
import json

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing

from ciba_bev.analysis import BottleneckMetric, bottleneck_metric
from ciba_bev.distillation.bottlenecks import BottleneckEvaluation

GRID = (5, 4)
TIMEOUT = datetime.timedelta(seconds=60)


@pytest.fixture
def samples():
    """Six samples: a feature of six channels, decoded well by one bottleneck and badly by two."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(6):
        student = torch.randn(1, 6, *GRID, generator=generator) + 3
        noise = torch.randn(1, 6, *GRID, generator=generator)
        evaluations = {}
        for name, scale in (('h1', 0.9), ('h2', 0.1), ('h4', 0.1)):
            decoded = student + scale * noise
            error = (decoded - student).square().sum(1).mean()
            evaluations[name] = BottleneckEvaluation(error, 2 * error, decoded)
        made.append({'teacher': noise, 'student': student, **evaluations})
    return made


def spectrum(features):
    values = torch.cat(features).movedim(1, -1).reshape(-1, 6).double().numpy()
    return np.sort(np.linalg.eigvalsh(np.cov(values.T, bias=True)))[::-1]


def rank(values):
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def test_metrics_are_those_of_all_samples_at_once(samples):
    metric = BottleneckMetric()
    metric.process(None, samples[:2])
    metric.process(None, samples[2:])
    found = metric.evaluate(len(samples))
    student = spectrum([sample['student'] for sample in samples])
    for name in ('h1', 'h2', 'h4'):
        generation = np.mean([float(sample[name].generation) for sample in samples])
        decoded = spectrum([sample[name].decoded for sample in samples])
        assert found[f'bottleneck/{name}/generation'] == pytest.approx(generation, rel=1e-6)
        assert found[f'bottleneck/{name}/regularization'] == pytest.approx(2 * generation, rel=1e-6)
        explained = 1 - generation / student.sum()
        assert found[f'bottleneck/{name}/explained'] == pytest.approx(explained, rel=1e-6)
        assert found[f'bottleneck/{name}/effective_rank'] == pytest.approx(rank(decoded), rel=1e-6)
    assert found['bottleneck/student/effective_rank'] == pytest.approx(rank(student), rel=1e-6)
    teacher = spectrum([sample['teacher'] for sample in samples])
    assert found['bottleneck/teacher/effective_rank'] == pytest.approx(rank(teacher), rel=1e-6)


def test_what_differs_between_samples_is_told_from_what_tells_the_place():
    generator = torch.Generator().manual_seed(0)
    pattern = 3 * torch.randn(1, 6, 20, 20, generator=generator)
    batches = []
    for _ in range(5):
        change = torch.randn(4, 6, 20, 20, generator=generator)
        student = pattern + change
        found = {'h2': pattern.expand_as(student), 'h4': pattern + 0.5 * change}
        evaluations = {
            name: BottleneckEvaluation(*[(decoded - student).square().sum(1).mean()] * 2, decoded)
            for name, decoded in found.items()
        }
        batches.append({'teacher': change, 'student': student, **evaluations})
    metric = BottleneckMetric()
    metric.process(None, batches)
    found = metric.evaluate(20)
    assert found['bottleneck/student/dynamic'] == pytest.approx(0.1, abs=0.01)
    # The pattern is nine tenths of the variance, and says nothing of any sample.
    assert found['bottleneck/h2/explained'] == pytest.approx(0.9, abs=0.01)
    assert found['bottleneck/h2/explained_dynamic'] == pytest.approx(0.0, abs=1e-6)
    assert found['bottleneck/h4/explained_dynamic'] == pytest.approx(0.75, abs=1e-6)


def test_features_without_a_grid_have_no_place():
    student = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    error = torch.tensor(1.0)
    metric = BottleneckMetric()
    metric.process(
        None,
        [
            {
                'teacher': student,
                'student': student,
                'h2': BottleneckEvaluation(error, error, student),
            }
        ],
    )
    assert not [name for name in metric.evaluate(8) if 'dynamic' in name]


def test_a_round_does_not_count_in_the_next(samples):
    metric = BottleneckMetric()
    metric.process(None, samples)
    first = metric.evaluate(len(samples))
    metric.process(None, samples)
    assert metric.evaluate(len(samples)) == first


def test_the_file_holds_spectra_and_the_rule(samples, tmp_path):
    path = tmp_path / 'made' / 'bottlenecks.json'
    metric = BottleneckMetric(out_file=str(path))
    metric.process(None, samples)
    found = metric.evaluate(len(samples))
    content = json.loads(path.read_text())
    expected = spectrum([sample['h2'].decoded for sample in samples])
    np.testing.assert_allclose(content['decoded_spectra']['h2'], expected, rtol=1e-6)
    assert set(content['feature_spectra']) == {'teacher', 'student'}
    assert found['bottleneck/suggested_size'] == content['metrics']['suggested_size']
    assert set(content['largest_gains']) == {'1', '2'}


def test_one_size_suggests_nothing(samples):
    metric = BottleneckMetric()
    metric.process(None, [{key: s[key] for key in ('teacher', 'student', 'h2')} for s in samples])
    assert 'bottleneck/suggested_size' not in metric.evaluate(len(samples))


def measure(rank, processes, folder):
    """Write the metrics of two and of five samples, shared between processes."""
    torch.distributed.init_process_group(
        'gloo', f'file://{folder}/{processes}', TIMEOUT, world_size=processes, rank=rank
    )
    # In this process only, which ends with the function.
    warnings = []
    bottleneck_metric.print_log = lambda text, **_: warnings.append(text)
    metric = BottleneckMetric()
    found = []
    for samples in (2, 5):
        for index in range(samples * rank // processes, samples * (rank + 1) // processes):
            generator = torch.Generator().manual_seed(index)
            student, noise = (torch.randn(1, 6, *GRID, generator=generator) for _ in range(2))
            evaluations = {}
            for name, scale in (('h2', 0.5), ('h4', 0.1)):
                error = (scale * noise).square().sum(1).mean()
                evaluations[name] = BottleneckEvaluation(error, 2 * error, student + scale * noise)
            metric.process(None, [{'teacher': noise, 'student': student, **evaluations}])
        found.append(metric.evaluate(samples))
    assert warnings == [], 'samples that count twice'
    if rank == 0:
        (folder / f'{processes}.json').write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def test_the_number_of_processes_changes_nothing(tmp_path):
    """Of three processes and two samples one has none."""
    measured = {}
    for processes in (1, 2, 3):
        torch.multiprocessing.start_processes(
            measure, args=(processes, tmp_path), nprocs=processes, start_method='fork'
        )
        measured[processes] = json.loads((tmp_path / f'{processes}.json').read_text())
    assert len(measured[1]) == 2
    for processes in (2, 3):
        assert [list(found) for found in measured[processes]] == [
            list(found) for found in measured[1]
        ]
        for found, expected in zip(measured[processes], measured[1]):
            assert found == pytest.approx(expected, rel=1e-12)


def test_samples_that_count_twice_are_told(samples, monkeypatch):
    lines = []
    monkeypatch.setattr(bottleneck_metric, 'print_log', lambda text, **_: lines.append(text))
    metric = BottleneckMetric()
    metric.process(None, samples)
    metric.evaluate(len(samples))
    assert lines == []
    metric.process(None, [*samples, samples[0]])
    metric.evaluate(len(samples))
    assert len(lines) == 1
    assert '7 samples' in lines[0]
    assert 'round_up=False' in lines[0]
