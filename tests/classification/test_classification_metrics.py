"""Accuracy and F1 against scikit-learn."""

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from ciba_bev.classification import Accuracy, Classifier, F1Score
from ciba_bev.errors import CibaError


def evaluate(metric, logits, labels):
    # In batches of different sizes, as the last one is.
    for part in (slice(0, 30), slice(30, None)):
        metric.process(None, [{'logits': logits[part], 'labels': labels[part]}])
    return metric.evaluate(len(logits))


def test_accuracy():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4, generator=generator)
    labels = torch.randint(4, (50,), generator=generator)
    expected = 100 * accuracy_score(labels, logits.argmax(1))
    assert evaluate(Accuracy(), logits, labels)['accuracy/top1'] == pytest.approx(expected)


def test_f1():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 6, generator=generator)
    labels = (torch.rand(50, 6, generator=generator) < 0.3).float()
    # A class that is neither assigned nor present.
    logits[:, 5], labels[:, 5] = -9.0, 0.0
    found = evaluate(F1Score(), logits, labels)
    assigned = (logits.sigmoid() >= 0.5).int()
    for average in ('micro', 'macro'):
        expected = 100 * f1_score(labels.int(), assigned, average=average, zero_division=0)
        assert found[f'f1/{average}'] == pytest.approx(expected)


def test_diverged_logits_are_refused():
    logits = torch.zeros(50, 2)
    logits[3, 1] = torch.nan
    with pytest.raises(CibaError, match='1 of 50 samples are NaN'):
        evaluate(Accuracy(), logits, torch.zeros(50, dtype=torch.long))


def test_a_batch_without_the_modality_is_refused():
    network = dict(type='ciba_bev.MMIMDBNetwork', modality='text', in_channels=3)
    model = Classifier(network, inputs=['text'], multi_label=True)
    with pytest.raises(CibaError, match='reads text, but the batch has image'):
        model({'image': torch.zeros(2, 3)})
