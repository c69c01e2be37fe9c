"""Every field of a study, declared once: its default, its check, its meaning, and when it has an effect.

`Study`, study files, errors, ``docs/fields.md`` and `load_model` read these tables. A name in `CONFIGURATION` is
static, one in `HYPERPARAMETERS` is traced.

To add a field to the built-in CNN, give `jaxlab.models.CNN` a keyword with a default and declare it here: `_of_model`.
"""

import inspect
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

from jaxlab import losses
from jaxlab.checks import (
    Check,
    flag,
    one_of,
    optional,
    plain,
    several,
    text,
    traceable,
    whole,
)
from jaxlab.checks import seed as check_seed
from jaxlab.datasets import AUGMENTATIONS
from jaxlab.engine import check_deterministic
from jaxlab.losses import LOSSES
from jaxlab.metrics import METRICS
from jaxlab.models import ACTIVATIONS, BIAS_INITIALIZERS, INITIALIZERS, MODELS
from jaxlab.models.cnn import POOLINGS
from jaxlab.optimizers import OPTIMIZERS, optimizer
from jaxlab.schedules import SCHEDULES
from jaxlab.settings import Configuration
from jaxlab.trial import PRECISIONS, Supervised


class Field(NamedTuple):
    """A declared name.

    Attributes:
        name: as a person writes it.
        default: its value where a study gives none.
        check: ``(name, value) -> value`` in canonical form, or an `InputError`.
        help: what it means.
        needs: the configuration under which it has an effect: by name, the values of which one is needed.
        by_name: whether the loss and metrics read it as a parameter of this name, if a study declares it.
    """

    name: str
    default: Any
    check: Check
    help: str
    needs: Mapping[str, Collection[Any]] = {}
    by_name: bool = False

    def has_effect(self, configuration: Configuration) -> bool:
        """Whether built-in parts read it under a configuration; a setting read by name is left to its reader."""
        return not self.by_name and all(
            _has_one(configuration.get(name), values) for name, values in self.needs.items()
        )

    @property
    def settings(self) -> dict[str, Collection[Any]]:
        """What it needs in addition to some built-in model or optimizer."""
        some = set(MODELS), set(OPTIMIZERS)
        return {name: values for name, values in self.needs.items() if set(values) not in some}

    @property
    def remedy(self) -> str:
        """How to give it an effect; empty if a built-in model or optimizer suffices."""
        needed = [(name, " or ".join(map(written, values))) for name, values in self.settings.items()]
        return " and ".join(f"set configuration.{name} to {values}" for name, values in needed)


def _has_one(value: Any, wanted: Collection[Any]) -> bool:
    if isinstance(value, tuple):  # custom functions in a list see what the named ones see
        return any(callable(each) or each in wanted for each in value)
    return value in wanted


def written(value: Any) -> str:
    """Write a value as a study file does, but text without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _list(known: Collection[str], what: str = "a function") -> str:
    return f"{', '.join(known)} or {what}"


def _one_of(*known: str) -> Check:
    return partial(one_of, known=known)


def _named(known: Collection[str]) -> Check:
    return partial(one_of, known=known, or_function=True)


_AT_LEAST_ONE = partial(whole, least=1)
_NOT_NEGATIVE = partial(traceable, least=0)
_POSITIVE = partial(traceable, above=0)
_SHARE = partial(traceable, least=0, below=1)


def _class_weights(field: str, value: Any) -> str | tuple[float, ...]:
    if isinstance(value, str):
        return one_of(field, value, ("balanced",))
    return several(_POSITIVE, 2)(field, value)


_DIAGNOSTICS = ("effective_rank", "update_cosine")


def _of_model(name: str, check: Check, help: str, *models: str) -> Field:
    """A keyword of the built-in models named, by default all; its default is the first one's."""
    models = models or tuple(MODELS)
    default = inspect.signature(MODELS[models[0]].__init__).parameters[name].default
    return Field(name, default, check, help, {"model": models})


def _of_training(name: str, check: Check, help: str, **needs: Any) -> Field:
    """A field of `Supervised`, with its default."""
    return Field(name, Supervised._field_defaults[name], check, help, needs)


def _of_optimizers(name: str, default: Any, check: Check, help: str, *optimizers: str, **needs: Any) -> Field:
    """A field of the built-in optimizers named, by default all."""
    return Field(name, default, check, help, {"optimizer": optimizers or tuple(OPTIMIZERS)} | needs)


def _of_schedule(schedule: str, name: str, check: Check, help: str) -> Field:
    default = SCHEDULES[schedule].hyperparameters[name]
    return _of_optimizers(name, default, check, help, schedule=(schedule,))


def _of_loss(name: str, default: Any, check: Check, help: str, **needs: Any) -> Field:
    return Field(name, default, check, help, needs, by_name=True)


def _by_name(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


#: What a study says of itself, in Python and in a study file.
STUDY = _by_name(
    Field("name", "study", text, "name of the study; the run folder is runs/NAME by default"),
    Field("epochs", 10, _AT_LEAST_ONE, "epochs of every trial"),
    Field("data_seed", 0, check_seed, "seed of the minibatch order, which all trials share"),
    Field(
        "keep",
        "none",
        _one_of("none", "last", "best"),
        "weights kept in the run folder: none, last (as each trial ended), or best (also those of the epoch with the "
        "best validation metric)",
    ),
    Field(
        "deterministic",
        "auto",
        lambda _, value: check_deterministic(value),
        "whether a GPU computes the same bits at every call: true, false, or auto (where every operation has a "
        "deterministic form)",
    ),
)

#: The static fields.
CONFIGURATION = _by_name(
    Field("model", "cnn", _named(MODELS), "cnn, mlp, or a function"),
    # The models have different defaults: None is the model's own.
    Field(
        "features",
        None,
        optional(several(_AT_LEAST_ONE)),
        "channels of each convolution, by default 16 and 32; or widths of the mlp, by default 128",
        {"model": tuple(MODELS)},
    ),
    _of_model("kernel_sizes", plain, "size of the kernels, for all convolutions or for each", "cnn"),
    _of_model("strides", plain, "stride, for all convolutions or for each", "cnn"),
    _of_model("padding", plain, "padding: SAME, VALID or explicit pairs", "cnn"),
    _of_model("pool_sizes", plain, "window of the pooling after each convolution; 1 for none", "cnn"),
    _of_model("pooling", _one_of(*POOLINGS), "kind of pooling: max or average", "cnn"),
    _of_model("dense", several(_AT_LEAST_ONE), "widths of the dense layers after the convolutions", "cnn"),
    _of_model(
        "activation",
        _named(ACTIVATIONS),
        f"activation after every hidden layer: {_list(ACTIVATIONS)}",
    ),
    _of_model(
        "kernel_init",
        optional(_named(INITIALIZERS)),
        f"initializer of the kernels: {_list(INITIALIZERS)}; by default lecun_normal",
    ),
    _of_model(
        "bias_init",
        optional(_named(BIAS_INITIALIZERS)),
        f"initializer of the biases: {_list(BIAS_INITIALIZERS)}; by default zeros",
    ),
    _of_training(
        "convolution",
        _one_of("auto", "product", "remat", "native"),
        "how convolutions are computed: auto, product (im2col), remat (im2col in less memory) or native (that of JAX)",
    ),
    _of_model("batch_norm", flag, "batch normalisation before each activation"),
    Field("dropout", False, flag, "add dropout layers, whose rate is dropout_rate", {"model": tuple(MODELS)}),
    Field("optimizer", "rmsprop", optimizer, f"optimizer: {_list(OPTIMIZERS)}"),
    _of_optimizers(
        "momentum_type",
        "none",
        _one_of("none", "classical", "nesterov"),
        "kind of momentum: none, classical or nesterov",
    ),
    _of_optimizers(
        "centered", False, flag, "subtract the squared mean of the gradient, in RMSProp", "rmsprop"
    ),
    _of_optimizers("l1_type", "coupled", _one_of("coupled", "proximal"), "how L1 acts: coupled or proximal"),
    _of_optimizers(
        "l2_type", "coupled", _one_of("coupled", "decoupled"), "how L2 acts: coupled or decoupled"
    ),
    _of_optimizers(
        "schedule",
        "constant",
        _named(SCHEDULES),
        f"learning rate schedule: {_list(SCHEDULES, 'an Optax schedule')}, which is a factor on it",
    ),
    Field(
        "loss",
        None,
        optional(_named(LOSSES)),
        f"loss: {_list(LOSSES)}; by default cross_entropy, or mse for regression",
    ),
    Field(
        "class_weights",
        None,
        optional(_class_weights),
        "factor on the loss by class: balanced (examples / (classes * examples of the class)) or a list",
        {"loss": tuple(losses.OF_LABELS)},
    ),
    Field(
        "metrics",
        None,
        optional(several(_named(METRICS), 1)),
        f"metrics: {_list(METRICS, 'functions')}; by default accuracy, or for regression mae and rmse",
    ),
    _of_training("batch_size", _AT_LEAST_ONE, "examples per step"),
    _of_training(
        "microbatch",
        optional(_AT_LEAST_ONE),
        "examples whose gradient is computed at once; by default all, on a CPU as its cache allows",
    ),
    _of_training(
        "evaluation_batch_size",
        optional(_AT_LEAST_ONE),
        "examples evaluated at once; by default 512, on a CPU as its cache allows",
    ),
    Field(
        "augment",
        (),
        several(_named(AUGMENTATIONS)),
        f"random changes of the minibatch: {_list(AUGMENTATIONS, 'functions')}",
    ),
    _of_training("own_order", flag, "each trial has its own minibatch order, by its seed"),
    Field(
        "dtype",
        "float32",
        _one_of("float32", "bfloat16"),
        "data type of the network's arithmetic: float32 or bfloat16",
        {"model": tuple(MODELS)},
    ),
    _of_training(
        "precision",
        _one_of(*PRECISIONS),
        "precision of float32 products on a device that could round their inputs: default (the device's own: "
        "tensorfloat32 on recent GPUs, bfloat16 on TPUs, float32 on CPUs), tensorfloat32 or float32",
    ),
    Field(
        "dead_units",
        None,
        optional(flag),
        "count dead units; by default where the activation has a flat zero",
    ),
    _of_training(
        "dormant_threshold",
        _NOT_NEGATIVE,
        "a unit at or below this share of its layer's mean activation is dormant",
    ),
    Field(
        "diagnostics",
        (),
        several(_named(_DIAGNOSTICS)),
        f"costlier diagnostics: {_list(_DIAGNOSTICS, 'functions')}",
    ),
    _of_training(
        "probe",
        _AT_LEAST_ONE,
        "training examples that the costlier diagnostics see",
        diagnostics=("effective_rank",),
    ),
    _of_training("step_losses", flag, "record the loss of every step"),
)

#: The traced scalars that built-in parts read.
HYPERPARAMETERS = _by_name(
    Field("seed", 0, check_seed, "seed of the initial weights and of dropout"),
    _of_optimizers("learning_rate", 1e-3, _NOT_NEGATIVE, "step size"),
    _of_optimizers("l1", 0.0, _NOT_NEGATIVE, "strength of L1: l1 * sum |w|, kernels only"),
    _of_optimizers("l2", 0.0, _NOT_NEGATIVE, "strength of L2: l2 * sum w**2, kernels only"),
    _of_model("init_scale", _NOT_NEGATIVE, "factor on the initial kernels"),
    Field(
        "dropout_rate",
        0.5,
        _SHARE,
        "fraction of activations dropped",
        {"model": tuple(MODELS), "dropout": (True,)},
    ),
    _of_optimizers("decay", 0.9, _SHARE, "decay of RMSProp's mean square", "rmsprop"),
    _of_optimizers(
        "eps",
        1e-8,
        _NOT_NEGATIVE,
        "epsilon, inside the root in RMSProp, outside in Adam",
        "rmsprop",
        "adam",
        "adagrad",
    ),
    _of_optimizers("momentum", 0.9, _SHARE, "momentum coefficient", momentum_type=("classical", "nesterov")),
    _of_optimizers("beta1", 0.9, _SHARE, "decay of Adam's mean", "adam"),
    _of_optimizers("beta2", 0.999, _SHARE, "decay of Adam's mean square", "adam"),
    _of_loss(
        "label_smoothing",
        0.0,
        _SHARE,
        "share of the target that is spread over all classes",
        loss=("cross_entropy",),
    ),
    _of_loss("gamma", 2.0, _NOT_NEGATIVE, "focusing exponent of the focal loss", loss=("focal",)),
    _of_loss("delta", 1.0, _POSITIVE, "error where Huber's parabola turns into a line", loss=("huber",)),
    _of_loss(
        "class_weight_exponent",
        1.0,
        _NOT_NEGATIVE,
        "exponent of class_weights: 0 is none of them, 1 all",
        class_weights=("balanced",),
    ),
    _of_schedule("warmup_cosine", "warmup_fraction", _SHARE, "fraction of all steps spent warming up"),
    _of_schedule(
        "warmup_cosine", "final_fraction", _NOT_NEGATIVE, "last learning rate, relative to the largest"
    ),
    _of_schedule("exponential", "decay_rate", _NOT_NEGATIVE, "factor on the learning rate per epoch"),
    _of_schedule("step", "drop_factor", _NOT_NEGATIVE, "factor on the learning rate at each drop"),
    _of_schedule("step", "drop_every", partial(traceable, least=1), "epochs between drops"),
)


def defaults(fields: Mapping[str, Field]) -> dict[str, Any]:
    """The default of each field of a table that has one without being declared."""
    return {name: field.default for name, field in fields.items() if not field.by_name}


def with_effect(fields: Mapping[str, Field], configuration: Configuration) -> tuple[str, ...]:
    """The fields of a table that built-in parts read under a configuration."""
    return tuple(name for name, field in fields.items() if field.has_effect(configuration))


def checked_configuration(name: str, value: Any, where: str = "configuration") -> Any:
    """A configuration value in canonical form; a custom name takes anything that a space takes."""
    check = CONFIGURATION[name].check if name in CONFIGURATION else plain
    return check(f"{where}.{name}", value)


def checked_hyperparameter(name: str, value: Any, where: str = "hyperparameters") -> float | int:
    """A hyperparameter's value in canonical form; a custom name takes any finite number."""
    check = HYPERPARAMETERS[name].check if name in HYPERPARAMETERS else traceable
    return check(f"{where}.{name}", value)
