"""Low-shot evaluation: a classifier on few labels, its penalty chosen among them."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from comad.evaluation import LowShotTestLoop


def loop(strengths=(1e-3, 1e-1, 10.0)):
    made = LowShotTestLoop.__new__(LowShotTestLoop)
    made.strengths, made.max_iter, made.classifiers = strengths, 500, {}
    return made


def clusters(count, seed, classes=3, scale=1.0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(classes, 8))
    labels = np.arange(count) % classes
    features = centres[labels] + scale * rng.normal(size=(count, 8))
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


def test_equals_logistic_regression_on_standardised_features():
    bank, labels = clusters(90, 0)
    queries, _ = clusters(30, 1)
    made = loop(strengths=(0.1,))
    made.fit({'mean': bank}, labels, 3)
    mean, std = bank.double().mean(0), bank.double().std(0, correction=0)
    reference = LogisticRegression(C=0.1, max_iter=500).fit((bank - mean) / std, labels)
    expected = reference.decision_function((queries - mean) / std)
    scores = made.scores({'mean': queries})['mean']
    np.testing.assert_allclose(scores, expected, atol=1e-3)


def test_noise_asks_for_a_strong_penalty():
    bank, labels = clusters(60, 0, scale=8.0)
    made = loop(strengths=(1e-4, 100.0))
    clean, clean_labels = clusters(60, 0, scale=0.3)
    made.fit({'noisy': bank}, labels, 3)
    assert made.classifiers['noisy'][-1].C == 1e-4
    made.fit({'clean': clean}, clean_labels, 3)
    assert (made.scores({'clean': clean})['clean'].argmax(1) == clean_labels).all()


def test_a_class_without_labels_never_wins():
    bank, labels = clusters(60, 0)
    made = loop(strengths=(1.0,))
    made.fit({'cls': bank}, labels, 5)
    scores = made.scores({'cls': bank})['cls']
    assert scores.shape == (60, 5) and int(scores.argmax(1).max()) == 2


def test_two_classes():
    bank, labels = clusters(40, 0, classes=2, scale=0.3)
    made = loop(strengths=(1.0,))
    made.fit({'cls': bank}, labels, 2)
    assert (made.scores({'cls': bank})['cls'].argmax(1) == labels).all()


@pytest.mark.parametrize(
    ('count', 'classes', 'message'),
    [(4, 1, 'holds the class 0 alone'), (3, 3, 'too few to hold a fifth of them back')],
)
def test_too_few_labels(count, classes, message):
    bank, labels = clusters(count, 0, classes)
    with pytest.raises(ValueError, match=message):
        loop().fit({'cls': bank}, labels, 3)
