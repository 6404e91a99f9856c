"""The synthetic experiments against the paper's closed forms."""

import json

import numpy as np
import pytest
import torch

from ciba_bev.analysis import limiting_distillation_loss, optimal_student_weight
from ciba_bev.classification.synthetic import (
    SyntheticDistillation,
    SyntheticMetric,
    SyntheticModalities,
    SyntheticTeachers,
    make_modalities,
)
from ciba_bev.errors import CibaError

DIMS, SAMPLES, GENERAL_DIMS, REPEATS = 8, 60, (2, 5), 2
SIZES = dict(general_dims=GENERAL_DIMS, repeats=REPEATS, dims=DIMS)


def train(model, item, steps=200):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        losses = model(**item, mode='loss')
        sum(value for name, value in losses.items() if name.startswith('loss_')).backward()
        optimizer.step()
    return losses


@pytest.fixture(scope='module')
def teachers(tmp_path_factory):
    """Checkpoint of trained teachers, and the training item."""
    item = SyntheticModalities(samples=SAMPLES, **SIZES).__getitems__([0])
    model = SyntheticTeachers(len(GENERAL_DIMS) * REPEATS, DIMS, features=6)
    model.init_weights()
    before = model(**item, mode='loss')['loss_task'].item()
    after = train(model, item)['loss_task'].item()
    assert after < 0.6 * before
    path = tmp_path_factory.mktemp('teachers') / 'teachers.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    return str(path), item


@pytest.fixture(scope='module')
def trained(teachers):
    path, item = teachers
    model = SyntheticDistillation(path, 'teachers.py', features=6, **SIZES)
    model.init_weights()
    losses = train(model, item)
    return model, item, losses


def test_parts_are_completely_separated():
    pair = make_modalities(general_dims=3, dims=8, samples=40, seed=5)
    torch.testing.assert_close(pair.teacher[:3], pair.student[:3])
    rows = torch.cat((pair.teacher, pair.student[3:])).double()
    # GS^T = O, GS'^T = O, SS'^T = O (Sec. 3.4), and mean square one.
    torch.testing.assert_close(rows @ rows.T / 40, torch.eye(13).double(), atol=1e-6, rtol=0)


def test_without_gram_schmidt_rows_are_gaussian():
    pair = make_modalities(3, 8, 4000, seed=5, orthogonal=False)
    product = pair.teacher @ pair.teacher.T / 4000
    torch.testing.assert_close(product, torch.eye(8), atol=0.1, rtol=0)
    assert (product - torch.eye(8)).abs().max() > 1e-3


def test_draws_differ_but_the_task_is_the_same():
    first, second = (make_modalities(8, 8, 2000, seed=1, draw=draw) for draw in (0, 1))
    assert not torch.equal(first.teacher, second.teacher)
    # Everything is shared, so least squares on one draw predicts the classes of the other.
    signs = 2.0 * first.labels.float() - 1
    plane = torch.linalg.lstsq(first.teacher.T, signs[:, None]).solution
    predicted = (second.teacher.T @ plane).squeeze(1) > 0
    assert (predicted == second.labels.bool()).float().mean() > 0.95


def test_the_trained_weight_is_that_of_lemma_1(trained):
    model, item, _ = trained
    for member in range(4):
        expected = optimal_student_weight(
            model.teachers.feature_extractor[member],
            item['inputs']['teacher'][member],
            item['inputs']['student'][member],
        )
        found = model.networks.feature_extractor[0, member].detach()
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_rank_and_loss_are_those_of_the_theory(trained):
    """Theorem 1, and Corollary 1.1 to one per cent."""
    model, item, losses = trained
    measured = model(**item, mode='predict')[0]
    for member in range(4):
        shared = GENERAL_DIMS[member // REPEATS]
        values = measured['weight_singular_values'][0, member]
        assert int((values > 1e-3 * values[0]).sum()) == min(shared, 6)
        limit = limiting_distillation_loss(
            model.teachers.feature_extractor[member], item['inputs']['teacher'][member], shared
        )
        assert measured['distillation_loss'][member].item() == pytest.approx(limit.item(), rel=0.01)
        assert measured['limiting_loss'][member].item() == pytest.approx(limit.item())
    for index, shared in enumerate(GENERAL_DIMS):
        members = slice(index * REPEATS, (index + 1) * REPEATS)
        assert losses[f'general_{shared}'].item() < 1e-4
        limit = measured['limiting_loss'][members].mean().item()
        assert losses[f'specific_{shared}'].item() == pytest.approx(limit, rel=0.01)


def test_a_task_of_two_classes_adds_one_direction(trained):
    model, item, _ = trained
    values = model(**item, mode='predict')[0]['weight_singular_values'][1, :REPEATS]
    ranks = (values > 1e-3 * values[:, :1]).sum(1)
    assert ranks.tolist() == [GENERAL_DIMS[0] + 1] * REPEATS


def test_members_do_not_notice_each_other(teachers, tmp_path):
    path, item = teachers
    together = SyntheticDistillation(path, 'teachers.py', features=6, **SIZES)
    together.init_weights()
    start = together.networks.feature_extractor.detach().clone()
    classifier = together.networks.classifier.detach().clone()
    train(together, item, steps=20)
    weights = torch.load(path, weights_only=True)['state_dict']
    own = tmp_path / 'one.pth'
    torch.save({'state_dict': {name: value[3:4] for name, value in weights.items()}}, own)
    alone = SyntheticDistillation(str(own), 'teachers.py', (5,), 1, DIMS, features=6)
    alone.init_weights()
    alone.networks.feature_extractor.data.copy_(start[:, 3:4])
    alone.networks.classifier.data.copy_(classifier[:, 3:4])
    inputs = {name: value[3:4] for name, value in item['inputs'].items()}
    train(alone, {'inputs': inputs, 'labels': item['labels'][3:4]}, steps=20)
    torch.testing.assert_close(
        alone.networks.feature_extractor, together.networks.feature_extractor[:, 3:4]
    )


def test_cross_entropy_is_that_of_torch(teachers):
    path, item = teachers
    model = SyntheticDistillation(
        path, 'teachers.py', features=6, loss='cross_entropy', loss_weight=2.0, **SIZES
    )
    model.init_weights()
    expected = 0.0
    for task in range(2):
        for member in range(4):
            target = model.teachers.feature_extractor[member] @ item['inputs']['teacher'][member]
            student = model.networks.feature_extractor[task, member]
            logits = student @ item['inputs']['student'][member]
            expected += torch.nn.functional.cross_entropy(logits.T, target.T.softmax(1)).item()
    loss = model(**item, mode='loss')['loss_distillation'].item()
    assert loss == pytest.approx(2 * expected, rel=1e-5)


def test_the_metric_writes_everything(trained, tmp_path):
    model, item, _ = trained
    metric = SyntheticMetric(out_file=str(tmp_path / 'out' / 'synthetic.json'))
    metric.process(None, model(**item, mode='predict'))
    scores = metric.evaluate(1)
    content = json.loads((tmp_path / 'out' / 'synthetic.json').read_text())
    assert np.shape(content['weight_singular_values']) == (2, 4, 6)
    assert np.shape(content['feature_singular_values']) == (2, 4, 6)
    assert scores['synthetic/accuracy'] == pytest.approx(np.mean(content['accuracy']))
    assert 50 < scores['synthetic/teacher_accuracy'] <= 100


def test_says_what_is_wrong(teachers):
    path, _ = teachers
    with pytest.raises(CibaError, match='from 0 to dims = 8'):
        make_modalities(9, 8, 40)
    with pytest.raises(CibaError, match='13 rows cannot be orthogonal over 12'):
        make_modalities(3, 8, 12)
    with pytest.raises(CibaError, match="'mse' or 'cross_entropy'"):
        SyntheticDistillation(path, 'teachers.py', loss='l1')
    with pytest.raises(CibaError, match=r'no missing\.pth(.|\n)*train\.py teachers\.py'):
        SyntheticDistillation('missing.pth', 'teachers.py', **SIZES).init_weights()
    with pytest.raises(CibaError, match='no teachers for this experiment'):
        SyntheticDistillation(path, 'teachers.py', features=7, **SIZES).init_weights()
