"""Answers that others published or that have a closed form, reached through the public interface."""

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge
from small import grid

from jaxlab import Study, datasets, load_model, pruning

# Loss vectors and stopping times of the tests of EarlyStopping.jl (test/criteria.jl, MIT licence), which has no epoch
# 0: its n-th update is our epoch n - 1 where only validation counts.
LOSSES = [10, 8, 9, 10, 11, 12, 12, 13, 14, 15, 16, 17, 16]
OTHERS = [10, 9, 8, 9, 10, 7, 10, 10, 10, 10]


def stopping_epoch(rule, validation, train=None):
    """The first epoch at which the rule stops the only trial, or None."""
    validation = np.array([validation], float)
    curves = {"validation_loss": validation, "train_loss": validation if train is None else np.array([train])}
    last, running = validation.shape[1] - 1, np.ones(1, bool)
    for epoch in range(last + 1):
        history = pruning.History(
            epoch, last, running, curves, {"validation_loss": "lower"}, "validation_loss"
        )
        if rule(history):
            return epoch
    return None


@pytest.mark.parametrize(
    ("rule", "losses", "time"),
    [
        *(
            (pruning.GeneralizationLoss(a), LOSSES, t)
            for a, t in [(12, 3), (20, 4), (40, 6), (90, 11), (110, 12)]
        ),
        (pruning.GeneralizationLoss(1000), LOSSES, None),
        *((pruning.Up(n, 1), LOSSES, t) for n, t in [(1, 3), (2, 4), (3, 5), (4, 6), (5, 12), (6, None)]),
        *((pruning.Patience(n), LOSSES, t) for n, t in [(1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (6, 8)]),
        *((pruning.Patience(n), OTHERS, t) for n, t in [(2, 5), (3, 9)]),
    ],
    ids=str,
)
def test_stopping_times_of_early_stopping_jl(rule, losses, time):
    assert stopping_epoch(rule, losses) == (None if time is None else time - 1)


# Validation loss of each strip, and its last two training losses.
STRIPS = [
    (10, 9.5, 9.3),
    (8, 9.1, 8.9),
    (9, 8.3, 8.4),
    (10, 9.9, 9.5),
    (11, 10.6, 10.4),
    (12, 11.8, 11.7),
    (12, 11.6, 11.4),
    (13, 12.2, 12.1),
    (14, 14.5, 14.1),
    (15, 13.9, 13.7),
    (16, 12.5, 12.3),
    (17, 11.2, 11.0),
    (16, 10.5, 10.3),
]


@pytest.mark.parametrize(("alpha", "time"), [(2.0, 3), (3.8, 5), (11.6, 6), (15.1, 8), (15.3, None)])
def test_stopping_times_of_the_productivity_quotient(alpha, time):
    """Strips of two epochs: validation is known at their ends, and far above all of these before and between."""
    far, train = 1e6, np.array([row[1:] for row in STRIPS]).ravel()
    validation = np.full(len(train), far)
    validation[1::2] = [row[0] for row in STRIPS]
    found = stopping_epoch(pruning.ProductivityQuotient(alpha, 2), [far, *validation], [far, *train])
    assert found == (None if time is None else 2 * time)


def penalised(x, y, l1, l2):
    """The weights and the bias that minimise mean (y − xw − b)² + l1·Σ|w| + l2·Σw², by scikit-learn."""
    exact = {"tol": 1e-12, "max_iter": 100_000}
    if l1 and l2:  # scikit-learn halves the mean square, and l2 once more
        model = ElasticNet(alpha=l1 / 2 + l2, l1_ratio=l1 / (l1 + 2 * l2), **exact)
    elif l1:
        model = Lasso(alpha=l1 / 2, **exact)
    else:
        model = Ridge(alpha=l2 * len(y)) if l2 else LinearRegression()
    model.fit(x, y)
    return model.coef_, model.intercept_


def test_a_study_of_a_linear_model_finds_lasso_ridge_and_elastic_net(tmp_path):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(64, 6)).astype(np.float32)
    y = (x @ [2.0, -1.0, 0.5, 0.0, 0.0, 0.0] + 1 + 0.3 * draw.normal(size=64)).astype(np.float32)
    data = datasets.from_arrays((x, y), (x, y), (x, y))
    configuration = {
        "model": "mlp",
        "features": [],
        "optimizer": "sgd",
        "l1_type": "proximal",
        "batch_size": 64,
    }
    space = grid(l1=[0.0, 0.3], l2=[0.0, 0.2])
    study = Study(data, space, 150, configuration, {"learning_rate": 0.2}, keep="last")
    results = study.run(tmp_path / "run", width=4)
    zeros = []
    for trial, (l1, l2) in enumerate(zip(results.l1.values, results.l2.values, strict=True)):
        w, b = penalised(x.astype(float), y.astype(float), l1, l2)
        output = load_model(tmp_path / "run", trial, inputs="prepared").output
        np.testing.assert_allclose(output.kernel[...][:, 0], w, atol=1e-5)
        np.testing.assert_allclose(output.bias[...], b, atol=1e-5)
        np.testing.assert_allclose(results.train_loss[trial, -1], np.mean((y - x @ w - b) ** 2), rtol=1e-4)
        zeros.append(np.sum(w == 0))
        np.testing.assert_array_equal(output.kernel[...][:, 0] == 0, w == 0)
    assert zeros[:2] == [0, 0]
    assert min(zeros[2:]) >= 2
