import hypothesis
import numpy as np
import pytest
import synthetic
import xarray as xr
from hypothesis import strategies as st

from jaxlab import InputError, analysis
from jaxlab.pruning import Outcome, Stop

NAN = float("nan")


@pytest.fixture
def study():
    return synthetic.example()


def test_what_varies_leaves_out_seed_and_constants_and_puts_the_learning_rate_last():
    settings = synthetic.grid(seed=[0, 1], learning_rate=[0.1, 1.0], l2=[0.0], activation=["relu", "elu"])
    assert analysis.varied(synthetic.results(settings)) == ("activation", "learning_rate")
    assert analysis.varied(synthetic.results({"learning_rate": [0.1]})) == ()


def test_means_by_setting_are_over_seeds_and_sorted():
    settings = {"learning_rate": [1.0, 0.1, 1.0, 0.1], "seed": [0, 0, 1, 1]}
    figures = synthetic.results(settings, loss=[5.0, 1.0, 7.0, 1.5])[["unstable"]]
    figures["value"] = ("trial", [1.0, 10.0, NAN, 30.0])
    figures["infinite"] = ("trial", [np.inf, 0.0, 1.0, 0.0])
    figures["unknown"] = ("trial", [NAN, 0.0, NAN, 0.0])
    means = analysis.by_setting(figures)
    assert means.learning_rate.values.tolist() == [0.1, 1.0]
    assert means.trials.values.tolist() == [2, 2]
    np.testing.assert_array_equal(means.value, [20.0, 1.0])
    np.testing.assert_array_equal(means.infinite, [0.0, np.inf])
    np.testing.assert_array_equal(means.unknown, [0.0, NAN])
    np.testing.assert_array_equal(means.unstable, [0.0, 1.0])


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(st.data())
def test_means_by_setting_agree_with_groupby(data):
    trials = data.draw(st.integers(1, 12))
    numbers = st.one_of(st.floats(-5, 5), st.just(NAN))
    rates = data.draw(st.lists(st.sampled_from([0.1, 1.0, 10.0]), min_size=trials, max_size=trials))
    values = data.draw(st.lists(numbers, min_size=2 * trials, max_size=2 * trials))
    figures = xr.Dataset(
        {"value": (("trial", "layer"), np.reshape(values, (trials, 2)))}, {"learning_rate": ("trial", rates)}
    )
    expected = figures.groupby("learning_rate").mean("trial")
    means = analysis.by_setting(figures, ["learning_rate"])
    np.testing.assert_array_equal(means.learning_rate, expected.learning_rate)
    np.testing.assert_allclose(
        means.value, expected.value.transpose("learning_rate", "layer"), rtol=1e-12, atol=1e-12
    )


def test_names_that_are_left_out_are_averaged_over_too(study):
    means = analysis.by_setting(study[["train_accuracy"]].isel(epoch=-1), ["learning_rate"])
    np.testing.assert_allclose(means.train_accuracy, [0.65, 0.725, 0.65, 0.1])
    assert means.trials.values.tolist() == [4] * 4
    with pytest.raises(InputError, match="is not recorded"):
        analysis.by_setting(study, ["momentum"])


def test_the_last_value_is_that_of_the_last_epoch_run_finite_or_not():
    curves = xr.DataArray(
        [[[1.0, 5.0], [2.0, NAN], [NAN, NAN]], [[1.0, 1.0], [NAN, 2.0], [3.0, 3.0]], [[7.0, 7.0]] * 3],
        dims=("trial", "epoch", "layer"),
        coords={"epoch": [0, 1, 2]},
    )
    ran = xr.DataArray([1, 2, -1], dims="trial")
    np.testing.assert_array_equal(analysis.last(curves, ran), [[2.0, NAN], [3.0, 3.0], [NAN, NAN]])


@pytest.mark.parametrize("worst", [NAN, np.inf, -np.inf])
@pytest.mark.parametrize(("better", "good"), [("higher", 0.9), ("lower", 0.1)])
def test_a_setting_that_is_not_finite_at_the_end_is_never_best(worst, better, good):
    settings = synthetic.grid(learning_rate=[0.1, 1.0], seed=[0, 1])
    results = synthetic.results(settings, validation=[good, worst, 0.5, 0.5], better=better)
    best = analysis.best_setting(results)
    assert (best.setting, best.trials, best.not_finite) == ({"learning_rate": 1.0}, 2, 0)
    assert best.validation == 0.5
    figures = analysis.overfitting(results)
    np.testing.assert_array_equal(np.isfinite(figures.validation), [True, False, True, True])
    np.testing.assert_array_equal(np.isposinf(figures.gap), [False, True, False, False])
    assert analysis.by_setting(figures).validation[0] == (-np.inf if better == "higher" else np.inf)


def test_where_no_setting_is_finite_throughout_the_others_of_the_best_are_named_and_not_counted():
    settings = synthetic.grid(learning_rate=[0.1, 1.0], seed=[0, 1, 2])
    results = synthetic.results(settings, validation=[0.9, NAN, NAN, 0.5, 0.6, NAN], test=[0.7] * 6)
    best = analysis.best_setting(results)
    assert (best.setting, best.trials, best.not_finite, best.diverged) == ({"learning_rate": 1.0}, 2, 1, True)
    np.testing.assert_allclose([best.validation, *best.validation_range], [0.55, 0.5, 0.6])
    nothing = synthetic.results(settings, validation=[NAN] * 6)
    never = nothing.assign(best_epoch=0 * nothing.best_epoch - 1)
    assert analysis.overfitting_table(never).splitlines()[2].split()[-4:] == ["-", "1", "0", "%"]
    for question in (analysis.best_setting, analysis.largest_gap):
        with pytest.raises(InputError, match="no trial has a finite value of the metric"):
            question(nothing)


def test_a_trial_without_a_finite_end_has_no_gap_an_endless_rise_and_is_unstable():
    results = synthetic.results(
        {"learning_rate": [0.1, 1.0]}, loss=[1.0, NAN], validation_loss=[1.0, NAN], validation=[0.7, NAN]
    )
    assert results.unstable.values.tolist() == [False, True]
    assert analysis.overfitting(results).rise.values.tolist() == [1.0, np.inf]
    assert analysis.divergence(results).loss_ratio.values.tolist() == [0.5, np.inf]
    assert analysis.largest_stable(results).smallest_unstable.item() == 1.0
    gap = analysis.largest_gap(results)
    assert (gap.setting, gap.trials) == ({"learning_rate": 0.1}, 1)


def test_values_that_look_alike_are_different_settings():
    settings = {"width": np.array(["1", "'1'", "True", "1"], object), "seed": [0, 0, 0, 1]}
    assert analysis.by_setting(synthetic.results(settings)[["unstable"]]).trials.values.tolist() == [2, 1, 1]
    mixed = xr.Dataset(
        {"unstable": ("trial", [0.0, 1.0, 0.0])}, {"width": ("trial", np.array([True, 1, "1"], object))}
    )
    assert analysis.by_setting(mixed, ["width"]).trials.values.tolist() == [1, 1, 1]


def test_what_a_trial_does_not_use_is_one_value_of_its_own():
    settings = {
        "momentum": [0.5, 0.5, 0.9, NAN, NAN],
        "optimizer": np.array(["sgd"] * 3 + ["adam"] * 2, object),
        "seed": [0, 1, 0, 0, 1],
    }
    results = synthetic.results(settings, validation=[0.1, 0.2, 0.3, 0.8, 0.9])
    assert analysis.varied(results) == ("momentum", "optimizer")
    assert analysis.by_setting(results[["rise"]]).trials.values.tolist() == [2, 1, 2]
    best = analysis.best_setting(results)
    assert best.trials == 2
    assert best.setting["optimizer"] == "adam"
    assert np.isnan(best.setting["momentum"])
    limits = analysis.largest_stable(results, over="momentum", by=())
    assert limits.largest_stable.item() == 0.9


def test_the_largest_stable_rate_counts_from_below(study):
    limits = analysis.largest_stable(study)
    assert limits.l2.values.tolist() == synthetic.STRENGTHS
    np.testing.assert_array_equal(limits.largest_stable, [0.1, 0.01])
    np.testing.assert_array_equal(limits.smallest_unstable, [1.0, 0.1])


def test_one_unstable_seed_is_enough():
    loss = np.ones(16)
    loss[5] = 9.0  # rate .1, strength 0, seed 1
    limits = analysis.largest_stable(synthetic.rates(loss=loss), by="l2")
    np.testing.assert_array_equal(limits.largest_stable, [0.01, 10.0])
    np.testing.assert_array_equal(limits.smallest_unstable, [0.1, NAN])


def test_none_is_stable_if_the_smallest_rate_is_not(study):
    limits = analysis.largest_stable(synthetic.rates(loss=np.full(16, 3.0)), by=())
    assert limits.sizes["setting"] == 1
    assert np.isnan(limits.largest_stable.item())
    assert limits.smallest_unstable.item() == 0.01


def test_stability_can_be_followed_over_another_number(study):
    limits = analysis.largest_stable(study, over="l2", by="learning_rate")
    np.testing.assert_array_equal(limits.largest_stable, [0.5, 0.0, NAN, NAN])


@pytest.mark.parametrize("over", ["momentum", "trial_id", "seeds"])
def test_following_what_is_no_number_is_an_error(study, over):
    with pytest.raises(InputError, match=r"name a number that the trials have: .*learning_rate"):
        analysis.largest_stable(study, over=over)


def test_a_random_search_is_pooled():
    settings = {"learning_rate": [0.01, 0.02, 0.3, 0.4], "l2": [0.1, 0.2, 0.3, 0.4]}
    results = synthetic.results(settings, loss=[1.0, 1.0, 3.0, 1.0])
    assert analysis.default_by(results, "learning_rate") == ()
    limits = analysis.largest_stable(results)
    assert (limits.largest_stable.item(), limits.smallest_unstable.item()) == (0.02, 0.3)


def test_a_grid_holds_everything_else_fixed(study):
    assert analysis.default_over(study) == "learning_rate"
    assert analysis.default_by(study, "learning_rate") == ("l2",)
    words = synthetic.results({"activation": ["relu", "elu"]})
    assert analysis.default_over(words) is None
    assert analysis.default_over(synthetic.results({"l2": [0.0, 1.0], "learning_rate": [1.0, 1.0]})) == "l2"


@pytest.mark.parametrize(
    ("share", "mean", "worst"),
    [(0.1, [1.0, 0.1], [0.1, 0.1]), (0.4, [1.0, 10.0], [1.0, 1.0]), (0.8, [10.0, NAN], [10.0, NAN])],
)
def test_where_a_share_of_the_units_is_dead(study, share, mean, worst):
    crossing = analysis.threshold_crossing(study, share)
    np.testing.assert_array_equal(crossing.crossing, mean)
    np.testing.assert_array_equal(crossing.worst_layer_crossing, worst)


@pytest.mark.parametrize("share", [0.0, 1.5, -0.1])
def test_a_share_is_in_0_to_1(study, share):
    with pytest.raises(InputError, match=r"give a share in \(0, 1\]"):
        analysis.threshold_crossing(study, share)


def test_the_best_setting_by_the_last_epoch(study):
    best = analysis.best_setting(study)
    assert best.setting == {"l2": 0.0, "learning_rate": 0.1}
    assert (best.metric, best.trials, best.diverged) == ("accuracy", 2, False)
    np.testing.assert_allclose([best.validation, best.train, best.test], [0.85, 0.95, 0.8])
    np.testing.assert_allclose(best.validation_range, [0.84, 0.86])


def test_the_best_epoch_may_be_better_than_the_last():
    results = synthetic.results({"learning_rate": [0.1, 1.0]}, validation=[0.5, 0.6])
    results.validation_accuracy[0, 2] = 0.9
    results.best_epoch[0] = 2
    best = analysis.best_setting(results)
    assert best.setting == {"learning_rate": 1.0}
    assert best.best_validation == pytest.approx(0.6)
    assert np.isnan(best.test)
    assert analysis.overfitting(results).best_validation[0] == 0.9


def test_lower_is_better_for_an_error():
    results = synthetic.results(
        {"learning_rate": [0.1, 1.0, 10.0]}, metric="mae", better="lower", units="degrees",
        train=[1.0, 2.0, 8.0], validation=[3.0, 2.5, 9.0],
    )  # fmt: skip
    best, gap = analysis.best_setting(results), analysis.largest_gap(results)
    assert (best.setting, best.validation, best.units) == ({"learning_rate": 1.0}, 2.5, "degrees")
    assert (gap.setting, gap.gap) == ({"learning_rate": 0.1}, 2.0)


def test_a_setting_with_a_diverged_seed_is_best_only_if_all_have_one():
    settings = synthetic.grid(learning_rate=[0.1, 1.0], seed=[0, 1])
    values = {"train": [0.5] * 4, "validation": [0.5, 0.5, 2.9, 2.9]}
    some = analysis.best_setting(synthetic.results(settings, **values, bad=[-1, -1, 7, -1]))
    assert (some.setting, some.diverged) == ({"learning_rate": 0.1}, False)
    every = analysis.best_setting(synthetic.results(settings, **values, bad=[3, -1, 7, -1]))
    assert (every.setting, every.diverged) == ({"learning_rate": 1.0}, True)


def pruned(*trials):
    return dict.fromkeys(trials, Stop(Outcome.PRUNED, "median", "lost"))


def test_pruned_trials_do_not_speak_for_their_setting():
    settings = synthetic.grid(learning_rate=[0.1, 1.0], seed=[0, 1])
    values = {"validation": [0.6, 0.6, 0.1, 0.9], "test": [0.6, 0.6, 0.1, 0.8]}
    every = analysis.best_setting(synthetic.results(settings, **values))
    assert (every.setting, every.pruned) == ({"learning_rate": 0.1}, 0)
    reached = [4, 4, 1, 4]
    best = analysis.best_setting(synthetic.results(settings, **values, reached=reached, stops=pruned(2)))
    assert (best.setting, best.trials, best.pruned) == ({"learning_rate": 1.0}, 1, 1)
    np.testing.assert_allclose([best.validation, best.test, *best.validation_range], [0.9, 0.8, 0.9, 0.9])
    lost = analysis.best_setting(synthetic.results(settings, **values, stops=pruned(0, 1, 2, 3)))
    assert (lost.setting, lost.trials, lost.pruned) == ({"learning_rate": 0.1}, 2, 0)
    patient = dict.fromkeys([0, 1], Stop(Outcome.STOPPED_EARLY, "patience", "no better"))
    assert analysis.best_setting(synthetic.results(settings, **values, stops=patient)).trials == 2


def test_the_largest_gap(study):
    gap = analysis.largest_gap(study)
    assert gap.setting == {"l2": 0.5, "learning_rate": 1.0}
    np.testing.assert_allclose([gap.gap, gap.train, gap.validation], [0.2, 0.9, 0.7], rtol=1e-6)
    assert gap.trials == 2


def test_divergence_of_each_trial():
    figures = analysis.divergence(
        synthetic.results({"learning_rate": [0.1, 1.0, 10.0]}, loss=[0.5, 3.0, 1.0], bad=[-1, -1, 12])
    )
    assert figures.diverged.values.tolist() == [False, False, True]
    assert figures.unstable.values.tolist() == [False, True, True]
    np.testing.assert_array_equal(figures.first_bad_step, [NAN, NAN, 12])
    np.testing.assert_allclose(figures.loss_ratio, [0.25, 1.5, NAN])
    np.testing.assert_allclose(figures.loss_ratio_curve[2], [1.0, 0.875, 0.875, NAN, NAN])


def test_overfitting_of_each_trial():
    results = synthetic.results(
        {"seed": [0]}, validation_loss=[1.0], train=[0.9], validation=[0.7], test=[0.6]
    )
    results.validation_loss[0, 3] = 0.5
    results.rise[0] = 2.0
    figures = analysis.overfitting(results)
    np.testing.assert_allclose([figures.train[0], figures.validation[0], figures.test[0]], [0.9, 0.7, 0.6])
    np.testing.assert_allclose([figures.gap[0], figures.generalization_loss[0]], [0.2, 100.0], rtol=1e-6)


def test_dead_units_balance():
    results = synthetic.results({"seed": [0, 1]}, dead=[[0.5, 0.0], [1.0, 0.5]])
    change = results.dead_fraction.diff("epoch")
    zero = results.dead_fraction.isel(epoch=[0])
    results["died_fraction"] = xr.concat([zero + 1, change.clip(0) + 0.25], "epoch")
    results["revived_fraction"] = xr.concat([zero, (-change).clip(0) + 0.25], "epoch")
    figures = analysis.dead_units(results)
    np.testing.assert_allclose(figures.end, [0.25, 0.75])
    np.testing.assert_allclose(figures.worst_end, [0.5, 1.0])
    np.testing.assert_allclose(figures.revived, [1.0, 1.0])
    np.testing.assert_allclose(figures.start + figures.died - figures.revived, figures.end)


def test_only_trials_whose_units_can_die_enter_a_mean():
    settings = synthetic.grid(learning_rate=[0.1, 1.0], activation=["relu", "elu", "leaky_relu"])
    dead = [[0.2], [0.0], [0.0], [0.6], [0.0], [0.0]]
    results = synthetic.results(settings, dead=dead, can_die=[True, False, False] * 2)
    figures = analysis.dead_units(results)
    means = analysis.by_setting(figures, ["learning_rate"])
    np.testing.assert_allclose(means.end, [0.2, 0.6])
    np.testing.assert_allclose(means.end_by_layer[:, 0], [0.2, 0.6])
    np.testing.assert_array_equal(figures.start, [0, NAN, NAN] * 2)
    limits = analysis.threshold_crossing(results, 0.4)
    found = dict(zip(limits.activation.values, limits.crossing.values, strict=True))
    np.testing.assert_array_equal([found["relu"], found["elu"]], [1.0, NAN])


def test_a_trial_that_did_not_learn_is_not_called_unstable():
    results = synthetic.results(
        {"learning_rate": [0.0, 0.1, 1.0, 10.0]}, loss=[2.0, 1.0, 1.9, 3.0], train=[0.1, 0.9, 0.3, 0.3],
        chance=0.3,
    )  # fmt: skip
    assert results.did_not_learn.values.tolist() == [True, False, True, False]
    assert results.unstable.values.tolist() == [False, False, False, True]
    limits = analysis.largest_stable(results)
    assert (limits.largest_stable.item(), limits.did_not_learn.item()) == (1.0, 1.0)


def test_sensitivity_caps_each_loss_at_its_initial_one():
    settings = synthetic.grid(learning_rate=[0.1, 1.0, 10.0], seed=[0, 1])
    results = synthetic.results(settings, loss=[0.5, 0.5, 1.0, 9.0, 1.0, 1.0], bad=[-1, -1, -1, -1, 5, 5])
    # 0.5; (1 + 2) / 2; diverged: the initial 2. Above the best: 0, 1 and 1.5.
    assert analysis.sensitivity(results).sensitivity.item() == pytest.approx(2.5 / 3)


def test_trials_that_were_not_trained_are_left_out():
    settings = {"learning_rate": [0.1, 1.0, 10.0]}
    results = synthetic.results(settings, loss=[1.0, 1.0, 3.0], validation=[0.5, 0.6, 0.9], reached=[4, 1, 0])
    assert analysis.judged(results).learning_rate.values.tolist() == [0.1, 1.0]
    assert analysis.largest_stable(results).largest_stable.item() == 1.0
    nothing = synthetic.results(settings, reached=[0, 0, -1])
    for function in (
        analysis.best_setting,
        analysis.largest_stable,
        analysis.largest_gap,
        analysis.sensitivity,
    ):
        with pytest.raises(InputError, match="no trial has completed an epoch yet"):
            function(nothing)


def test_unstacking_a_grid(study):
    shuffled = study.isel(trial=np.random.default_rng(0).permutation(study.sizes["trial"]))
    axes = analysis.unstack(shuffled.assign_coords(decay=("trial", [0.9] * 16)))
    assert dict(axes.sizes) == {"learning_rate": 4, "l2": 2, "seed": 2, "epoch": 5, "layer": 2}
    assert axes.decay.item() == 0.9
    assert axes.first_bad_step.dtype == np.int32
    assert axes.unstable.dtype == bool
    for index in range(16):
        one = study.isel(trial=index)
        found = axes.sel(learning_rate=one.learning_rate, l2=one.l2, seed=one.seed)
        assert found.trial_id.item() == one.trial_id.item()
        np.testing.assert_array_equal(found.validation_accuracy, one.validation_accuracy)


def test_unstacking_one_trial_and_no_grid():
    one = analysis.unstack(synthetic.results({"learning_rate": [0.1], "seed": [3]}))
    assert dict(one.sizes) == {"epoch": 5}
    assert (one.learning_rate.item(), one.seed.item()) == (0.1, 3)
    zipped = synthetic.results({"learning_rate": [0.1, 1.0], "l2": [0.0, 1.0]})
    repeated = synthetic.results({"learning_rate": [0.1, 0.1, 1.0, 1.0], "l2": [0.0, 0.0, 1.0, 1.0]})
    for results in (zipped, repeated):
        with pytest.raises(InputError, match="not a full grid of 2 l2 x 2 learning_rate"):
            analysis.unstack(results)
