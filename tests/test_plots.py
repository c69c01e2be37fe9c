import os

import matplotlib as mpl
import numpy as np
import pytest
import synthetic
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from jaxlab import InputError, analysis, plots
from jaxlab.plots.frame import WARNING, log_y, visible_widths

RATES, STRENGTHS, SEEDS = [0.01, 0.1, 1.0], [0.0, 0.001], [0, 1]
FIGURES = {
    "divergence": plots.divergence_figure,
    "overfitting": plots.overfitting_figure,
    "dead units": plots.dead_units_figure,
}


def each(values):
    """One value for each (rate, strength), for the second seed 0.02 more."""
    return np.repeat(np.asarray(values, float).ravel(), 2) + np.tile([0.0, 0.02], 6)


@pytest.fixture
def study():
    dead = each([[0, 0], [0.2, 0.1], [0.9, 0.6]])
    return synthetic.results(
        synthetic.grid(learning_rate=RATES, l2=STRENGTHS, seed=SEEDS),
        loss=each([[0.5, 0.6], [0.1, 3.0], [3.0, 3.0]]),
        train=each([[0.7, 0.6], [0.9, 0.5], [0.1, 0.1]]),
        validation=each([[0.6, 0.5], [0.7, 0.45], [0.1, 0.1]]),
        dead=np.stack([dead, dead / 2], 1),
        bad=[-1] * 10 + [5, 5],
    )


def title(figure):
    return figure.texts[0].get_text()


def plotted(ax):
    """The lines with a marker at every point."""
    return [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata()) == len(RATES)]


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("divergence", "Training becomes unstable at learning rate 0.1 to 1, depending on L2"),
        (
            "overfitting",
            "Validation accuracy is best (71.0 %) and the gap largest (20.0 points) at learning rate 0.1, L2 0",
        ),
        ("dead units", "10 % of the units are dead from learning rate 0.1–1 on, 40 % from 1 on for some L2"),
    ],
)
def test_the_title_states_what_the_run_found(study, name, finding):
    figure = FIGURES[name](study)
    assert isinstance(figure, Figure)
    assert title(figure) == finding
    assert "made up: 12 trials, 2 seeds, 4 epochs." in " ".join(figure.texts[1].get_text().split())


def test_a_figure_says_how_many_stopped_early(study):
    study.outcome[:3] = ["pruned", "stopped early", "diverged"]
    found = FIGURES["overfitting"](study).texts[1].get_text()
    assert "4 epochs (2 stopped early: shown at their last epoch)." in found


@pytest.mark.parametrize(
    ("names", "told"), [(["learning_rate"], True), (["learning_rate", "momentum", "decay"], False)]
)
def test_a_long_setting_is_told_by_the_title_alone(names, told):
    settings = {name: [0.001234, 0.01234, 0.1234] for name in names}
    figure = FIGURES["overfitting"](
        synthetic.results(settings, train=[0.9, 0.9, 0.9], validation=[0.8, 0.5, 0.7])
    )
    texts = [text.get_text().replace("\n", " ") for text in figure.axes[-1].get_legend().get_texts()]
    assert any(text.startswith("best: learning rate 0.00123") for text in texts) == told
    assert ("best" in texts) != told
    assert "learning rate 0.00123" in title(figure)


@pytest.mark.parametrize(
    ("name", "panel", "measure", "variable"),
    [
        ("divergence", 0, analysis.divergence, "loss_ratio"),
        ("divergence", 1, analysis.divergence, "oscillation"),
        ("overfitting", 0, analysis.overfitting, "validation"),
        ("overfitting", 1, analysis.overfitting, "gap"),
        ("dead units", 0, analysis.dead_units, "end"),
    ],
)
def test_lines_are_the_means_over_seeds_and_dots_the_trials(study, name, panel, measure, variable):
    ax = FIGURES[name](study).axes[panel]
    figures = measure(study)
    means = analysis.by_setting(figures)
    drawn = plotted(ax)
    assert len(drawn) == len(STRENGTHS)
    for line, strength in zip(drawn, STRENGTHS, strict=True):
        own = means.isel(setting=np.flatnonzero(means.l2 == strength))
        np.testing.assert_array_equal(line.get_xdata(), RATES)
        np.testing.assert_array_equal(line.get_ydata(), own[variable])
    dots = np.concatenate(
        [points.get_offsets().data for points in ax.collections if points.get_offsets().size]
    )
    trials = figures[variable].values
    for value in trials[np.isfinite(trials)]:
        assert np.isclose(dots[:, 1], value).any()


def test_axes_are_labelled_and_rates_are_logarithmic(study):
    for name, draw in FIGURES.items():
        *by_rate, by_epoch = draw(study).axes
        for ax in by_rate:
            assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "learning rate")
        assert by_epoch.get_xlabel() == "epoch"
        assert by_rate[0].get_ylabel(), name


def test_a_seed_that_is_not_finite_breaks_the_line_of_gaps_as_it_does_the_table():
    settings = synthetic.grid(learning_rate=RATES, seed=SEEDS)
    results = synthetic.results(settings, train=[0.9] * 6, validation=[0.8, 0.7, 0.8, np.nan, 0.8, 0.8])
    gaps = FIGURES["overfitting"](results).axes[1]
    (line,) = plotted(gaps)
    np.testing.assert_allclose(line.get_ydata(), [0.15, np.nan, 0.1], rtol=1e-5)
    assert "not finite" in [text.get_text() for text in gaps.texts]
    assert analysis.overfitting_table(results).splitlines()[3].count("not finite") == 2


def test_diverged_trials_are_marked_at_the_edge(study):
    figure = plots.divergence_figure(study)
    (marks,) = [points for points in figure.axes[0].collections if (points.get_offsets()[:, 1] == 0.95).all()]
    assert marks.get_offsets()[:, 0].tolist() == [1.0, 1.0]
    assert "diverged" in [text.get_text() for text in figure.axes[0].texts]
    stable = synthetic.results(synthetic.grid(learning_rate=RATES, seed=SEEDS))
    assert "diverged" not in [text.get_text() for text in plots.divergence_figure(stable).axes[0].texts]


def test_the_unstable_region_begins_half_way_to_the_first_unstable_rate(study):
    ax = plots.divergence_figure(study).axes[0]
    (region,) = [patch for patch in ax.patches if to_hex(patch.get_facecolor()) == "#b2182b"]
    assert region.get_x() == pytest.approx(np.sqrt(0.01 * 0.1))


def test_dead_units_have_lines_at_10_and_40_percent(study):
    for ax in plots.dead_units_figure(study).axes:
        levels = [line.get_ydata()[0] for line in ax.lines if to_hex(line.get_color()) == "#b2182b"]
        assert levels == [0.1, 0.4]


def test_layers_are_averaged_over_all_else(study):
    ax = plots.dead_units_figure(study).axes[1]
    ends = [line for line in ax.lines if line.get_label().startswith("conv")]
    assert [line.get_label() for line in ends] == ["conv_0", "conv_1"]
    # Of the four diverged or not: the last epoch each reached.
    expected = analysis.by_setting(analysis.dead_units(study), ["learning_rate"]).end_by_layer
    np.testing.assert_array_equal(np.stack([line.get_ydata() for line in ends], 1), expected)


def test_stronger_penalties_have_lighter_colours():
    settings = synthetic.grid(learning_rate=RATES, l2=[0.1, 0.0, 0.01])
    drawn = plotted(plots.divergence_figure(synthetic.results(settings)).axes[0])
    brightness = [np.dot(mpl.colors.to_rgb(line.get_color()), [0.3, 0.6, 0.1]) for line in drawn]
    assert len(brightness) == 3
    assert brightness == sorted(brightness)


SEEDED = synthetic.grid(learning_rate=RATES, seed=SEEDS)
MANY = synthetic.grid(learning_rate=RATES, l2=[0.0, 0.1], decay=[0.1, 0.2, 0.3], activation=["relu", "elu"])
# The settings, and what else is given.
ODD = {
    "one trial": ({"learning_rate": [0.1], "seed": [0]}, {}),
    "words": ({"activation": ["relu", "tanh", "elu"]}, {}),
    "two words": (synthetic.grid(activation=["relu", "tanh"], optimizer=["sgd", "adam"]), {}),
    "random": ({"learning_rate": [0.1, 0.2, 0.3], "l2": [0.3, 0.2, 0.1]}, {"loss": [0.1, 3.0, 0.5]}),
    "all diverged": (SEEDED, {"bad": [3] * 6}),
    "unfinished": (SEEDED, {"reached": [4, 2, 1, 0, -1, -1]}),
    "strengths with zero": ({"l2": [0.0, 1e-4, 1e-2]}, {}),
    "whole numbers": ({"batch_size": [8, 64, 512]}, {"loss": [0.5, 1.0, 3.0]}),
    "a narrow range": ({"decay": [0.8, 0.9, 0.95]}, {}),
    "many lines": (MANY, {}),
    "regression": (SEEDED, {"metric": "mae", "better": "lower", "units": "degrees"}),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize("name", ODD)
def test_every_kind_of_run_is_drawn_without_a_warning(name, draw):
    settings, given = ODD[name]
    trials = len(next(iter(settings.values())))
    results = synthetic.results(settings, **given, dead=np.full((trials, 2), 0.5))
    figure = draw(results)
    figure.draw_without_rendering()
    assert title(figure)
    assert len(figure.axes) == 3


def labels_of(axis):
    axis.figure.draw_without_rendering()
    return [text for text in (tick.label1.get_text() for tick in axis.get_major_ticks()) if text]


@pytest.mark.parametrize(
    ("low", "high"), [(0.9, 1.1), (1.1, 2.4), (0.2, 5.0), (1e-3, 30.0), (1.0001, 1.0004), (1e-12, 1e9)]
)
def test_a_logarithmic_axis_has_several_labels_however_short_it_is(low, high):
    ax = Figure().subplots()
    ax.plot([0, 1], [low, high])
    log_y(ax)
    labels = labels_of(ax.yaxis)
    assert 3 <= len(set(labels)) == len(labels) <= 8


def test_legends_cover_no_data(study):
    for draw in FIGURES.values():
        figure = draw(study)
        figure.draw_without_rendering()
        for ax in figure.axes:
            if ax.get_legend() is not None:
                assert ax.get_legend().get_window_extent().x0 >= ax.get_window_extent().x1


def test_curves_that_others_cover_are_wider():
    x = np.linspace(0, 1, 9)
    widths = visible_widths([x, x + 1, x, x + 1e-4])
    assert widths[0] > widths[2] > widths[3] == widths[1]
    start = np.where(x == 0, x, np.nan)  # of a trial that diverged at once
    assert len(set(visible_widths([x, start, start])[::2])) == 1


def test_curves_of_single_seeds_are_labelled(study):
    legend = plots.divergence_figure(study).axes[-1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["0.01", "0.1", "1", "seed 0", "seed 1"]
    styles = [line.get_linestyle() for line in legend.get_lines()][-2:]
    assert styles[0] != styles[1]
    alone = synthetic.results(synthetic.grid(learning_rate=RATES, seed=[7]))
    legend = plots.divergence_figure(alone).axes[-1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["0.01", "0.1", "1"]


def test_the_epochs_are_those_of_the_line_with_dead_units():
    settings = synthetic.grid(learning_rate=RATES, optimizer=["adam", "sgd"])
    dead = np.array([[0.0], [0.1], [0.0], [0.5], [0.0], [0.9]])
    legend = plots.dead_units_figure(synthetic.results(settings, dead=dead)).axes[-1].get_legend()
    assert "optimizer sgd" in legend.get_title().get_text()


def test_layers_are_averaged_over_trials_that_can_have_dead_units():
    settings = synthetic.grid(learning_rate=RATES, activation=["relu", "elu", "leaky_relu"])
    dead = np.array([[0.0], [0.0], [0.0], [0.3], [0.0], [0.0], [0.6], [0.0], [0.0]])
    results = synthetic.results(settings, dead=dead, can_die=[True, False, False] * 3)
    figure = plots.dead_units_figure(results)
    (line,) = [line for line in figure.axes[1].lines if line.get_label().startswith("conv")]
    np.testing.assert_allclose(line.get_ydata(), [0.0, 0.3, 0.6])
    assert "By layer: also mean over activation." in figure.texts[1].get_text().replace("\n", " ")
    assert "Without 6 trials whose activation has no flat zero." in figure.texts[1].get_text().replace(
        "\n", " "
    )
    none = plots.dead_units_figure(results.assign(can_die=results.can_die & False))
    assert title(none) == "No unit can be dead: no activation of this run has a flat zero"


def test_trials_that_did_not_learn_are_squares_and_the_chance_level_is_drawn():
    given = {"loss": [0.5, 1.9, 2.0], "train": [0.9, 0.3, 0.1], "validation": [0.8, 0.3, 0.1], "chance": 0.3}
    results = synthetic.results({"learning_rate": RATES}, **given)
    figure = plots.divergence_figure(results)
    assert title(figure) == "Training is stable at every learning rate tried; 2 of 3 trials did not learn"
    figure = plots.overfitting_figure(results)
    assert "Chance level: 30.0 % in validation." in " ".join(figure.texts[1].get_text().split())
    levels = [line.get_ydata() for line in figure.axes[0].lines if line.get_linestyle() == "-."]
    assert levels == [[0.3, 0.3]]
    (squares,) = [
        points
        for points in figure.axes[0].collections
        if len(points.get_offsets()) and not len(points.get_facecolor())
    ]
    np.testing.assert_allclose(squares.get_offsets()[:, 0], RATES[1:])
    assert len(squares.get_paths()[0].vertices) == 5  # four corners, closed


def test_trials_that_end_without_a_finite_value_are_marked_at_the_edge():
    results = synthetic.results(
        {"learning_rate": RATES}, loss=[1.0, 1.0, np.nan], validation=[0.5, np.nan, 0.7]
    )
    figure = plots.divergence_figure(results)
    assert [text.get_text() for text in figure.axes[0].texts if text.get_text() != "unstable"] == [
        "not finite"
    ]
    figure = plots.overfitting_figure(results)
    figure.draw_without_rendering()
    (mark,) = [text for text in figure.axes[0].texts if text.get_text() == "not finite"]
    assert mark.xy[0] == RATES[1]


def test_names_from_outside_are_drawn_as_they_are():
    settings = {
        "$x_$": [1.0, 10.0, 1.0, 10.0],
        "kind": np.array(["$a^$", "$a^$", "b\x1b[0m", "b\x1b[0m"], object),
    }
    results = synthetic.results(settings, dead=np.full((4, 1), 0.5)).assign_attrs(
        title="a $\\frac$ \x07" + "n" * 200
    )
    words = synthetic.results({"kind": ["$a^$", "$_$"]}, dead=np.zeros((2, 1)))
    ticks = synthetic.results({"kind": ["a\x1b[0m", "b"]}, dead=np.zeros((2, 1)))
    for draw in FIGURES.values():
        figure = draw(results)
        figure.draw_without_rendering()  # a formula that is none raises here
        assert figure.axes[0].get_xlabel() == "$x $"
        assert not any(
            "\x1b" in text.get_text() or "\x07" in text.get_text() for text in figure.findobj(mpl.text.Text)
        )
        figure = draw(words)
        assert labels_of(figure.axes[0].xaxis)[:2] == ["$a^$", "$_$"]
        assert labels_of(draw(ticks).axes[0].xaxis)[:2] == ["a\\x1b[0m", "b"]


def test_the_title_names_what_was_varied_alone():
    results = synthetic.results(
        synthetic.grid(activation=["relu", "elu"]), validation=[0.5, 0.6], train=[0.9, 0.6]
    )
    assert title(plots.overfitting_figure(results)) == (
        "Best validation accuracy (60.0 %) at activation elu; largest gap (40.0 points) at activation relu"
    )


def test_units_of_a_regression_are_on_the_axes():
    figure = plots.overfitting_figure(
        synthetic.results(SEEDED, **ODD["regression"][1], validation=np.arange(6) + 20.0)
    )
    assert figure.axes[0].get_ylabel() == "MAE (degrees)"
    assert "20.5 degrees" in title(figure)


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_what_cannot_be_drawn_is_one_clear_error(draw):
    settings = {"learning_rate": RATES}
    with pytest.raises(InputError, match="no trial has completed an epoch yet"):
        draw(synthetic.results(settings, reached=[0, 0, -1], dead=np.zeros((3, 1))))
    with pytest.raises(InputError, match="is not recorded in this run"):
        draw(synthetic.results(settings)[["above_initial"]])


def test_saving_writes_both_formats_and_only_replaces_its_own(study, tmp_path):
    figure = plots.divergence_figure(study)
    stem = tmp_path / "new folder" / "figure.v1"
    png, svg = plots.save(figure, stem)
    assert (png.name, svg.name) == ("figure.v1.png", "figure.v1.svg")
    with Image.open(png) as image:
        assert image.info["dpi"][0] >= 150
    assert "<svg" in svg.read_text()
    png.write_bytes(png.read_bytes()[:1000])
    plots.save(figure, stem)
    assert png.stat().st_size > 1000
    svg.write_text("<svg>a drawing by hand</svg>")
    before = png.stat().st_mtime_ns
    with pytest.raises(InputError, match="was not drawn by jaxlab"):
        plots.save(figure, stem)
    assert svg.read_text() == "<svg>a drawing by hand</svg>"
    for there in (lambda: svg.symlink_to(tmp_path / "elsewhere"), lambda: os.mkfifo(svg)):
        svg.unlink()
        there()
        with pytest.raises(InputError, match="was not drawn by jaxlab"):
            plots.save(figure, stem)
    assert not (tmp_path / "elsewhere").exists()
    assert png.stat().st_mtime_ns == before


def test_a_folder_that_cannot_be_written_is_one_clear_error(study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        plots.save(Figure(), tmp_path / "file" / "figure")


def test_drawing_changes_no_global(study, tmp_path):
    before = dict(mpl.rcParams)
    for draw in FIGURES.values():
        plots.save(draw(study), tmp_path / "figure")
    assert dict(mpl.rcParams) == before


def test_long_words_on_an_axis_are_cut_only_where_they_stay_apart():
    names = [f"{'my_package.models.' * 2}{each}" for each in ("deep_network_a", "deep_network_b")]
    figure = plots.overfitting_figure(synthetic.results({"model": np.array(names, object)}))
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert [(len(text), text[-1]) for text in ticks] == [(40, "a"), (40, "b")]
    alike = [f"{'a' * 20}{each}{'z' * 20}" for each in "bc"]
    figure = plots.overfitting_figure(synthetic.results({"model": np.array(alike, object)}))
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == alike


def test_the_two_shares_that_answers_name_are_ticks():
    results = synthetic.results(
        synthetic.grid(learning_rate=RATES), dead=[[0.0, 0.0], [0.1, 0.2], [0.4, 0.5]]
    )
    for ax in plots.dead_units_figure(results).axes:
        red = [text.get_text() for text in ax.get_yticklabels() if text.get_color() == WARNING]
        assert red == ["10 %", "40 %"]
