"""Optimizers and schedules by name: Optax's, with the settings that their parameters name; clipping."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import grid
from test_reading import SMALL, its

from jaxlab import InputError, Study, load_model, load_study
from jaxlab.optax_functions import SHORT, find, optimizers, schedules
from jaxlab.optimizers import build_optimizer, rate_of
from jaxlab.schedules import needs_total_steps
from jaxlab.settings import Configuration, Hyperparameters

# What no study can train by name, and why.
UNUSABLE = {
    "optax.lbfgs": "is L-BFGS or a line search",
    "optax.contrib.sophia": "raises ValueError: obj_fn must be provided",
    "optax.contrib.dpsgd": "needs l2_norm_clip, which is not declared: declare it under hyperparameters",
    "optax.contrib.schedule_free": "evaluates other weights than it trains",
    "optax.contrib.schedule_free_adamw": "evaluates other weights than it trains",
    "optax.contrib.schedule_free_sgd": "evaluates other weights than it trains",
    "optax.optimistic_adam": "raises DeprecationWarning",  # an error in the tests alone
}
PARAMETERS = {
    "kernel": jnp.reshape(jnp.linspace(-1.0, 1.0, 12), (4, 3)),
    "bias": jnp.linspace(0.1, 0.3, 3),
}


def tiny(space=None, epochs=1, hyperparameters=None, **configuration):
    return its(
        space,
        epochs,
        hyperparameters,
        **{"model": "mlp", "features": [4], "activation": "tanh"} | configuration,
    )


def two_steps(optimizer):
    """Two updates, for gradients that differ, of ``hyperparameters -> optimizer``."""

    def steps(hyperparameters, gradients):
        transform = optax.with_extra_args_support(optimizer(hyperparameters))
        state, parameters = transform.init(PARAMETERS), PARAMETERS
        for scale in (1.0, -0.3):
            scaled = jax.tree.map(lambda g, scale=scale: scale * g + 0.1, gradients)
            updates, state = transform.update(scaled, state, parameters, value=jnp.float32(0.7), grad=scaled)
            parameters = optax.apply_updates(parameters, updates)
        return parameters

    return steps


def named(optimizer, schedule="constant", **configuration):
    settings = Configuration(optimizer=optimizer, **configuration)
    return two_steps(lambda h: build_optimizer(settings, h, 2, 1, schedule))


def hyperparameters(**numbers):
    return Hyperparameters(
        {name: jnp.float32(number) for name, number in numbers.items()}, seed=jnp.uint32(0)
    )


@pytest.mark.parametrize("name", [name for name in optimizers() if name not in UNUSABLE])
def test_every_optimizer_of_optax_trains_by_its_name_as_by_a_function(name):
    """The traced steps are the same, operation by operation, and so the bits."""
    (group,) = tiny(optimizer=name).groups
    function = functools.reduce(getattr, name.split(".")[1:], optax)

    def by_function(h):
        rate = {"learning_rate": h["learning_rate"]} if "learning_rate" in h else {}
        key = {"key": jax.random.key(h["seed"])} if name == "optax.noisy_sgd" else {}
        return function(**rate, **key)

    def by_name(h):
        return build_optimizer(group.configuration, h, 2, 1, "constant")

    one, other = (
        jax.make_jaxpr(two_steps(each))(group.example, PARAMETERS) for each in (by_name, by_function)
    )
    assert str(one) == str(other)


@pytest.mark.parametrize(("name", "message"), UNUSABLE.items())
def test_an_optimizer_that_cannot_train_so_is_refused(name, message):
    with pytest.raises(InputError, match=rf"^configuration.optimizer = '{name}': {message}"):
        assert tiny(optimizer=name).groups


def test_the_names_are_those_of_optax():
    assert {"optax.adamw", "optax.nadam", "optax.polyak_sgd", "optax.contrib.prodigy"} <= set(optimizers())
    assert set(SHORT.values()) <= set(optimizers())
    assert len(schedules()) >= 13
    assert not any("scale_by" in name for name in optimizers())


@pytest.mark.parametrize(
    ("short", "function"), [("adamw", optax.adamw), ("lion", optax.lion), ("muon", optax.contrib.muon)]
)
def test_a_short_word_is_the_optimizer_of_optax(short, function):
    h = hyperparameters(learning_rate=0.1)
    one, other = (
        jax.make_jaxpr(steps)(h, PARAMETERS)
        for steps in (named(short), two_steps(lambda h: function(h.learning_rate)))
    )
    assert str(one) == str(other)


def test_numbers_of_an_optimizer_are_swept_in_one_program_as_by_a_function():
    space = grid(b1=[0.5, 0.9], weight_decay=[0.0, 0.3], learning_rate=[0.03])

    def by_function(configuration, h):
        return optax.adamw(h.learning_rate, b1=h.b1, weight_decay=h.weight_decay, nesterov=True)

    by_name = tiny(space, optimizer="adamw", nesterov=True)
    assert [len(group.trials) for group in by_name.groups] == [4]
    results = by_name.run(width=2)
    declared = {"b1": 0.9, "weight_decay": 0.0}
    expected = tiny(space, 1, declared, optimizer=by_function).run(width=2)
    assert results.attrs["programs"] == expected.attrs["programs"]
    np.testing.assert_array_equal(results.train_loss, expected.train_loss)
    assert len(set(results.train_loss[:, 1].values.tolist())) == 4


def test_a_setting_that_omits_a_number_takes_the_functions_default():
    space = (
        grid(optimizer=["optax.adan", "adamw"])
        + grid(optimizer=["optax.adan"], b1=[0.5])
        + grid(optimizer=["optax.contrib.prodigy"])
    )
    found = {group.configuration.optimizer: group.hyperparameters for group in tiny(space).groups}
    np.testing.assert_allclose(found["optax.adan"]["b1"], [0.98, 0.5])
    assert found["adamw"]["b1"].tolist() == [0.9]
    assert [found[name]["learning_rate"][0] for name in found] == [1e-3, 1e-3, 1.0]


def test_only_what_is_declared_is_passed_on():
    (group,) = tiny(optimizer="adamw", hyperparameters={"b2": 0.5}).groups
    assert set(group.hyperparameters) == {"seed", "init_scale", "learning_rate", "b2"}
    assert "nesterov" not in group.configuration


def test_a_flag_of_an_optimizer_is_swept_as_configuration():
    swept = tiny(grid(nesterov=[True, False], b1=[0.8, 0.9]), optimizer="adamw")
    assert [(group.configuration.nesterov, len(group.trials)) for group in swept.groups] == [
        (True, 2),
        (False, 2),
    ]


def test_a_mask_of_kernels_spares_the_biases():
    h, zero = hyperparameters(learning_rate=0.1, weight_decay=0.5), jax.tree.map(jnp.zeros_like, PARAMETERS)

    def decayed(**configuration):
        settings = Configuration(optimizer="adamw", **configuration)
        transform = build_optimizer(settings, h, 2, 1, "constant")
        return transform.update(zero, transform.init(PARAMETERS), PARAMETERS)[0]

    np.testing.assert_allclose(decayed(mask="kernels")["kernel"], -0.05 * PARAMETERS["kernel"], rtol=1e-6)
    assert not decayed(mask="kernels")["bias"].any()
    assert decayed()["bias"].all()


def test_an_optimizer_that_draws_noise_takes_the_trials_seed():
    rated = {"learning_rate": jnp.float32(0.1)}
    first, again, other = (
        named("optax.noisy_sgd")(Hyperparameters(rated, seed=jnp.uint32(seed)), PARAMETERS)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first["kernel"], again["kernel"])
    assert (first["kernel"] != other["kernel"]).all()


def test_a_study_file_names_an_optimizer_and_its_model_is_loaded(tmp_path):
    (tmp_path / "study.toml").write_text(
        """
        epochs = 1
        keep = "last"
        data = { name = "digits", subset = 64 }
        configuration = { model = "mlp", features = [4], batch_size = 32, optimizer = "optax.nadam" }
        hyperparameters = { b1 = 0.8, clip_norm = 1.0 }
        """
    )
    results = load_study(tmp_path / "study.toml").run(tmp_path / "run")
    assert (float(results.b1[0]), float(results.clip_norm[0])) == (0.8, 1.0)
    outputs, _ = load_model(tmp_path / "run", 0, inputs="raw")(SMALL.test.inputs)
    assert outputs.shape == (len(SMALL.test.inputs), 10)


@pytest.mark.parametrize("index", range(3))
def test_the_examples_of_the_page_are_studies(index, tmp_path):
    page = (Path(__file__).parent.parent / "docs" / "optimizers.md").read_text(encoding="utf-8")
    (tmp_path / "study.toml").write_text(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[index])
    assert load_study(tmp_path / "study.toml").groups


def test_the_range_test_grows_exponentially_to_a_rate_of_ten():
    study = load_study(Path(__file__).parent.parent / "scripts" / "studies" / "learning_rate_range.toml")
    for group in study.groups:
        steps = study.steps_per_epoch(group)
        schedule = rate_of(
            group.configuration, group.example, steps, study.epochs, group.configuration.schedule
        )
        rates = jax.vmap(schedule)(jnp.arange(study.epochs * steps + 1))
        np.testing.assert_allclose([rates[0], rates[-1]], [1e-5, 10], rtol=1e-4)
        np.testing.assert_allclose(rates[1:] / rates[:-1], 1e6 ** (1 / (study.epochs * steps)), rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"optimizer": "optax.adamx"},
            "is not an optimizer of the installed Optax: did you mean 'optax.adamax'?",
        ),
        (
            {"optimizer": "optax.zzz"},
            "is not an optimizer of the installed Optax: take one of optax.adabelief, ",
        ),
        ({"optimizer": "optax.scale_by_adam"}, "is not an optimizer of the installed Optax"),
        ({"optimizer": "nadam"}, "configuration.optimizer = 'nadam': did you mean 'optax.nadam'?"),
        ({"optimizer": 3}, "give a function, or one of rmsprop, sgd, adam, adagrad, adamw, lion, muon"),
        ({"optimizer": ["adamw"]}, "give a function, or one of rmsprop"),
        ({"optimizer": optax.adamw(0.1)}, "is built already"),
        ({"hyperparameters": {"wieght_decay": 0.1}}, "did you mean 'weight_decay'?"),
        ({"space": grid(wieght_decay=[0.1])}, "did you mean 'weight_decay'?"),
        ({"nestrov": True}, "unknown name 'nestrov' in configuration; did you mean 'nesterov'?"),
        ({"hyperparameters": {"b1": 9}}, "hyperparameters.b1 = 9: give a number in [0, 1)"),
        ({"space": grid(b1=[0.9, -1])}, "space.b1 = -1: give a number in [0, 1)"),
        ({"hyperparameters": {"weight_decay": -1}}, "give a number >= 0"),
        ({"hyperparameters": {"b1": "0.9"}}, "give a finite number"),
        ({"hyperparameters": {"b1": [0.9]}}, "give a finite number"),
        ({"nesterov": "yes"}, "configuration.nesterov = 'yes': give true or false"),
        ({"mask": 3}, 'give "kernels", or a function from the parameters'),
        ({"hyperparameters": {"nesterov": 1}}, "is configuration: declare it under configuration"),
        ({"optimizer": "muon", "preconditioning": "x"}, "raises ValueError: Unknown preconditioning x"),
        (
            {"hyperparameters": {"l2": 0.1}},
            "has no effect under this configuration: take weight_decay; adamw reads learning_rate, b1, ",
        ),
        ({"hyperparameters": {"beta1": 0.9}}, "take one of those that adamw reads, learning_rate, b1, b2, "),
        ({"momentum_type": "nesterov"}, "take one of those that adamw reads"),
        ({"hyperparameters": {"warmup_fraction": 0.1}}, "set configuration.schedule to warmup_cosine"),
        ({"b1": "high"}, "configuration.b1 = 'high': give a finite number in [0, 1)"),
        (
            {"optimizer": lambda c, h: optax.sgd(h.learning_rate), "schedule": "optax.linear_schedule"},
            "reads learning_rate, which is not declared",
        ),
        (
            {"optimizer": lambda c, h: optax.sgd(0.1), "schedule": "optax.linear_schedule"},
            "configuration.schedule = 'optax.linear_schedule': has no effect",
        ),
        (
            {"optimizer": "sgd", "schedule": "optax.linear_schedule", "epochs": 2**40},
            "epochs = 1099511627776: give at",
        ),
        (
            {"space": grid(optimizer=["optax.sgd"]) + grid(optimizer=["optax.sgd"], momentum=[0.5])},
            "space.momentum = None: a setting omits it, and it has no default",
        ),
        (
            {"optimizer": "optax.adafactor", "schedule": "exponential"},
            "configuration.schedule = 'exponential': reads decay_rate, as optax.adafactor does",
        ),
        (
            {"optimizer": "optax.polyak_sgd", "schedule": "step"},
            "optax.polyak_sgd has no learning rate that a schedule could change",
        ),
        (
            {"optimizer": "optax.rprop", "schedule": "step"},
            "optax.rprop has no learning rate that a schedule",
        ),
        (
            {"optimizer": "optax.polyak_sgd", "hyperparameters": {"learning_rate": 1}},
            "optax.polyak_sgd reads, max_learning_rate, ",
        ),
        (
            {"schedule": "optax.cosine_decay"},
            "is not a schedule of the installed Optax: did you mean 'optax.cosine_",
        ),
        ({"schedule": "linear_schedule"}, "did you mean 'optax.linear_schedule'?"),
        ({"schedule": "optax.adam"}, "is not a schedule of the installed Optax"),
        ({"schedule": lambda: 1.0}, "is a function of (): give a function of (step), passed by position"),
        ({"schedule": 0.1}, "give a function, or one of constant, warmup_cosine, exponential, step"),
        ({"schedule": ["step"]}, "give a function, or one of constant"),
        (
            {"schedule": "optax.polynomial_schedule"},
            "needs power, which is not declared: declare it under hyperparameters",
        ),
        (
            {"schedule": "optax.exponential_decay"},
            "needs decay_rate, which is not declared: declare it under configuration",
        ),
        (
            {"schedule": "optax.exponential_decay", "hyperparameters": {"decay_rate": 0.1}},
            "looks at the value of decay_rate in Python (if, float(), range(), ...), which is traced: declare "
            "decay_rate under configuration",
        ),
        (
            {"schedule": "optax.sgdr_schedule"},
            "needs cosine_kwargs, which a study cannot declare: give a function",
        ),
        (
            {"schedule": "optax.warmup_cosine_decay_schedule", "hyperparameters": {"warmup_steps": 1}},
            "hyperparameters.warmup_steps = 1: is configuration",
        ),
        (
            {"schedule": "optax.warmup_cosine_decay_schedule", "warmup_steps": 100},
            "raises ValueError: The cosine_decay_schedule requires positive decay_steps",
        ),
        (
            {"schedule": "optax.piecewise_constant_schedule", "boundaries_and_scales": [3, 0.1]},
            "give pairs of a step and a factor",
        ),
        (
            {"space": grid(schedule=["exponential", "optax.exponential_decay"]), "decay_rate": 0.5},
            "configuration.decay_rate = 0.5: is a hyperparameter",
        ),
        ({"hyperparameters": {"clip_norm": 0}}, "hyperparameters.clip_norm = 0: give a number > 0"),
        ({"clip_norm": 1.0}, "configuration.clip_norm = 1.0: is a hyperparameter"),
        ({"space": grid(clip_norm=[1]) + grid(b1=[0.5])}, "space.clip_norm = None: a setting omits it"),
        ({"optimizer": "rmsprop", "eps_position": "out"}, "did you mean 'outside'?"),
        ({"optimizer": "rmsprop", "eps_position": True}, "give one of inside, outside"),
        ({"optimizer": "adam", "eps_position": "outside"}, "has no effect under this configuration"),
    ],
)
def test_bad_input_is_one_line(fields, message):
    with pytest.raises(InputError) as error:
        assert tiny(**{"optimizer": "adamw"} | fields).groups
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_custom_optimizer_that_does_not_clip_has_no_clip_norm():
    with pytest.raises(InputError, match=r"^hyperparameters.clip_norm = 1: has no effect"):
        assert tiny(optimizer=lambda c, h: optax.sgd(0.1), hyperparameters={"clip_norm": 1}).groups


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_clipping_is_swept_in_one_program(optimizer):
    space = grid(clip_norm=[1e-3, 1e30], learning_rate=[1.0 if optimizer == "sgd" else 1e-2])
    study = tiny(space, optimizer=optimizer)
    assert [len(group.trials) for group in study.groups] == [2]
    clipped, free = study.run(width=2).sel(epoch=1).train_loss.values
    plain = tiny(grid(learning_rate=space.values("learning_rate")), optimizer=optimizer).run().train_loss
    np.testing.assert_allclose(free, plain[0, 1], rtol=1e-5)
    if optimizer == "sgd":  # the weights moved by at most 2 steps of 1e-3
        assert abs(clipped - plain[0, 0]) < 1e-2 < abs(free - plain[0, 0])


def test_clipping_comes_before_penalties():
    h = hyperparameters(learning_rate=1.0, l1=0.0, l2=0.5, clip_norm=1e-6)
    c = Configuration(optimizer="sgd", l1_type="coupled", l2_type="coupled", momentum_type="none")
    transform = build_optimizer(c, h, 2, 1, "constant")
    updates, _ = transform.update(PARAMETERS, transform.init(PARAMETERS), PARAMETERS)
    np.testing.assert_allclose(updates["kernel"], -PARAMETERS["kernel"], atol=2e-6)


# Each schedule of Optax, by its settings and as it is called with a peak of 1 over 40 steps.
SCHEDULES = {
    "optax.constant_schedule": ({}, {}, lambda s: s(1.0)),
    "optax.cosine_decay_schedule": ({}, {"alpha": 0.1}, lambda s: s(1.0, 40, 0.1)),
    "optax.cosine_onecycle_schedule": ({"pct_start": 0.5}, {}, lambda s: s(40, 1.0, 0.5)),
    "optax.exponential_decay": (
        {"decay_rate": 0.5, "transition_steps": 10, "staircase": True},
        {},
        lambda s: s(1.0, 10, 0.5, staircase=True),
    ),
    "optax.linear_onecycle_schedule": ({}, {}, lambda s: s(40, 1.0)),
    "optax.linear_schedule": ({}, {}, lambda s: s(1.0, 0.0, 40)),
    "optax.piecewise_constant_schedule": (
        {"boundaries_and_scales": ((10, 0.5), (20, 0.1))},
        {},
        lambda s: s(1.0, {10: 0.5, 20: 0.1}),
    ),
    "optax.piecewise_interpolate_schedule": (
        {"boundaries_and_scales": ((10, 0.5), (20, 0.1)), "interpolate_type": "linear"},
        {},
        lambda s: s("linear", 1.0, {10: 0.5, 20: 0.1}),
    ),
    "optax.polynomial_schedule": ({}, {"power": 2.0, "end_value": 0.1}, lambda s: s(1.0, 0.1, 2.0, 40)),
    "optax.warmup_constant_schedule": ({"warmup_steps": 8}, {}, lambda s: s(0.0, 1.0, 8)),
    "optax.warmup_cosine_decay_schedule": (
        {"warmup_steps": 8},
        {"end_value": 0.2},
        lambda s: s(0.0, 1.0, 8, 40, 0.2),
    ),
    "optax.warmup_exponential_decay_schedule": (
        {"warmup_steps": 8, "decay_rate": 0.5},
        {},
        lambda s: s(0.0, 1.0, 8, 40, 0.5),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_of_optax_is_a_factor_on_the_learning_rate(name):
    static, numbers, called = SCHEDULES[name]
    (group,) = tiny(None, 20, numbers, optimizer="optax.sgd", schedule=name, **static).groups
    assert set(numbers) <= set(group.hyperparameters)
    h = group.example.replace(learning_rate=jnp.float32(0.3))
    steps = jnp.arange(50)
    rates = jax.vmap(rate_of(group.configuration, h, 2, 20, name))(steps)
    expected = 0.3 * jnp.broadcast_to(jax.vmap(called(find(name).function))(steps), (50,))
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("schedule", [lambda step: 0.5**step, "exponential", "optax.exponential_decay"])
def test_an_optimizer_of_optax_follows_any_kind_of_schedule(schedule):
    """Half the rate in the second step: one step is one epoch here."""
    numbers = hyperparameters(learning_rate=0.2, decay_rate=0.5)
    static = {"transition_steps": 1, "decay_rate": 0.5} if schedule == "optax.exponential_decay" else {}
    transform = build_optimizer(Configuration(optimizer="optax.sgd", **static), numbers, 1, 2, schedule)
    first, state = transform.update(PARAMETERS, transform.init(PARAMETERS), PARAMETERS)
    second, _ = transform.update(PARAMETERS, state, PARAMETERS)
    np.testing.assert_allclose(first["kernel"], -0.2 * PARAMETERS["kernel"], rtol=1e-6)
    np.testing.assert_allclose(second["kernel"], -0.1 * PARAMETERS["kernel"], rtol=1e-6)


def test_every_schedule_of_optax_that_numbers_describe_is_tried():
    assert set(schedules()) - set(SCHEDULES) == {"optax.sgdr_schedule"}


@pytest.mark.parametrize("optimizer", ["rmsprop", "adamw"])
def test_numbers_of_a_schedule_are_swept_in_one_program(optimizer):
    space = grid(alpha=[0.0, 0.9], learning_rate=[0.03])
    study = tiny(space, 2, optimizer=optimizer, schedule="optax.cosine_decay_schedule")
    assert [len(group.trials) for group in study.groups] == [2]
    early, late = study.run(width=2).train_loss.values[:, 2]
    assert early != late


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"schedule": "optax.cosine_decay_schedule"}, True),
        ({"schedule": "optax.cosine_decay_schedule", "decay_steps": 10}, False),
        ({"schedule": "optax.constant_schedule"}, False),
        ({"schedule": "warmup_cosine"}, True),
        ({"schedule": "step"}, False),
        ({"schedule": optax.constant_schedule(1.0)}, False),
        ({}, False),
    ],
)
def test_a_schedule_depends_on_the_length_where_it_ends_with_the_training(settings, needed):
    assert needs_total_steps(settings, ()) == needed


def test_a_run_whose_schedule_ends_with_it_is_not_extended(tmp_path):
    settings = {"model": "mlp", "features": [4], "batch_size": 32, "schedule": "optax.linear_schedule"}
    Study(SMALL, grid(), 1, settings).run(tmp_path / "run")
    with pytest.raises(InputError, match=r"its schedule optax.linear_schedule depends on the total number"):
        Study(SMALL, grid(), 2, settings).run(tmp_path / "run")
