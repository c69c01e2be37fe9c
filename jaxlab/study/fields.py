"""The fields that a study declares by itself: where a name stands here decides whether it is traced or static."""

from typing import Any, NamedTuple

from jaxlab.datasets import AUGMENTATIONS
from jaxlab.losses import LOSSES, METRICS
from jaxlab.models import ACTIVATIONS, BIAS_INITIALIZERS, INITIALIZERS
from jaxlab.schedules import SCHEDULES
from jaxlab.settings import Configuration
from jaxlab.study.checks import (
    Check,
    flag,
    name_or_function,
    number,
    one_of,
    optional,
    positive_int,
    seed,
    several,
    static,
)
from jaxlab.study.optimizers import OPTIMIZERS, optimizer
from jaxlab.trial import PRECISIONS


class Field(NamedTuple):
    """A declared name.

    Attributes:
        default: where a study says nothing.
        check: of a value.
        help: what it means.
        read_by: the built-in models or optimizers that read it; none where every study does.
    """

    default: Any
    check: Check
    help: str
    read_by: tuple[str, ...] = ()


DIAGNOSTICS = ("effective_rank", "update_cosine")
_MODELS = ("cnn", "mlp")

CONFIGURATION: dict[str, Field] = {
    "model": Field("cnn", name_or_function(_MODELS, "model"), "cnn, mlp, or file.py:function"),
    "features": Field(
        None, optional(several(positive_int)), "channels of each convolution, or widths of the mlp", _MODELS
    ),
    "kernel_sizes": Field(3, static, "of each convolution", ("cnn",)),
    "strides": Field(1, static, "of each convolution", ("cnn",)),
    "padding": Field("SAME", static, "SAME, VALID or explicit pairs", ("cnn",)),
    "pool_sizes": Field(2, static, "of the pooling behind each convolution; 1 is none", ("cnn",)),
    "pooling": Field("max", one_of(("max", "average"), "pooling"), "max or average", ("cnn",)),
    "dense": Field((), several(positive_int), "widths of the dense layers behind the convolutions", ("cnn",)),
    "activation": Field(
        "relu", name_or_function(ACTIVATIONS, "activation"), "after every trainable layer", _MODELS
    ),
    "kernel_init": Field(
        None, optional(name_or_function(INITIALIZERS, "initializer")), "of the kernels", _MODELS
    ),
    "bias_init": Field(
        None, optional(name_or_function(BIAS_INITIALIZERS, "initializer")), "of the biases", _MODELS
    ),
    "convolution": Field(
        "auto",
        one_of(("auto", "product", "remat", "native"), "lowering"),
        "how convolutions are computed: auto, product (im2col), remat (im2col in less memory) or native (that of JAX)",
    ),
    "batch_norm": Field(False, flag, "batch normalisation before each activation", _MODELS),
    "dropout": Field(False, flag, "dropout layers, at the rate dropout_rate", _MODELS),
    "optimizer": Field("rmsprop", optimizer, "the family of the optimizer"),
    "momentum_type": Field(
        "none",
        one_of(("none", "classical", "nesterov"), "momentum type"),
        "presence of momentum",
        tuple(OPTIMIZERS),
    ),
    "centered": Field(False, flag, "centred RMSProp", ("rmsprop",)),
    "l1_type": Field("coupled", one_of(("coupled", "proximal"), "L1 type"), "how L1 acts", tuple(OPTIMIZERS)),
    "l2_type": Field(
        "coupled", one_of(("coupled", "decoupled"), "L2 type"), "how L2 acts", tuple(OPTIMIZERS)
    ),
    "schedule": Field(
        "constant",
        name_or_function(SCHEDULES, "schedule"),
        "of the learning rate; an Optax schedule is a factor on it",
        tuple(OPTIMIZERS),
    ),
    "loss": Field(
        None, optional(name_or_function(LOSSES, "loss")), "by default cross_entropy, or mse for regression"
    ),
    "metrics": Field(
        None, optional(several(name_or_function(METRICS, "metric"), 1)), "by default accuracy, or mae, rmse"
    ),
    "batch_size": Field(64, positive_int, "examples per step"),
    "microbatch": Field(
        None,
        optional(positive_int),
        "examples whose gradient is computed at once; by default all, on a CPU as its cache allows",
    ),
    "evaluation_batch_size": Field(
        None,
        optional(positive_int),
        "examples evaluated at once; by default 512, on a CPU as its cache allows",
    ),
    "augment": Field(
        (), several(name_or_function(AUGMENTATIONS, "augmentation")), "random changes of the minibatch"
    ),
    "own_order": Field(False, flag, "each trial sees minibatches of its own, by its seed"),
    "dtype": Field(
        "float32", one_of(("float32", "bfloat16"), "dtype"), "of the network's arithmetic", _MODELS
    ),
    "precision": Field(
        "default",
        one_of(PRECISIONS, "precision"),
        "of float32 products on a device that could round their inputs: default (the device's own: tensorfloat32 on "
        "recent GPUs, bfloat16 on TPUs, float32 on CPUs), tensorfloat32 or float32",
    ),
    "dead_units": Field(
        None, optional(flag), "count dead units; by default where the activation has a flat zero"
    ),
    "dormant_threshold": Field(0.025, number(0), "tau of the dormant units"),
    "diagnostics": Field(
        (), several(name_or_function(DIAGNOSTICS, "diagnostic")), "costlier ones, on request"
    ),
    "probe": Field(256, positive_int, "training examples that the costlier diagnostics see"),
    "step_losses": Field(False, flag, "record the loss of every step"),
}

_HYPERPARAMETERS: dict[str, Field] = {
    "seed": Field(0, seed, "of the initial weights and of dropout"),
    "learning_rate": Field(1e-3, number(0), "step size"),
    "l1": Field(0.0, number(0), "strength of L1: l1 * sum |w|, kernels only"),
    "l2": Field(0.0, number(0), "strength of L2: l2 * sum w**2, kernels only"),
    "init_scale": Field(1.0, number(0), "factor on the initial kernels"),
    "dropout_rate": Field(0.5, number(0, 1, open_high=True), "share of activations dropped"),
    "decay": Field(0.9, number(0, 1, open_high=True), "of the mean square of RMSProp"),
    "eps": Field(1e-8, number(0), "inside RMSProp's root; outside Adam's"),
    "momentum": Field(0.9, number(0, 1, open_high=True), "of the momentum"),
    "beta1": Field(0.9, number(0, 1, open_high=True), "of Adam's mean"),
    "beta2": Field(0.999, number(0, 1, open_high=True), "of Adam's mean square"),
    "warmup_fraction": Field(0.1, number(0, 1, open_high=True), "share of all steps spent warming up"),
    "final_fraction": Field(0.0, number(0), "last learning rate over the largest"),
    "decay_rate": Field(0.9, number(0), "factor on the learning rate per epoch"),
    "drop_factor": Field(0.1, number(0), "factor on the learning rate at each drop"),
    "drop_every": Field(10.0, number(1), "epochs between drops"),
}


def known_hyperparameters() -> dict[str, Field]:
    """Every hyperparameter that some built-in piece reads."""
    return dict(_HYPERPARAMETERS)


def hyperparameters_of(configuration: Configuration) -> tuple[str, ...]:
    """The built-in hyperparameters that have an effect under one configuration."""
    names = ["seed"]
    if not callable(configuration.model):
        names += ["init_scale"] + ["dropout_rate"] * configuration.dropout
    if not callable(configuration.optimizer):
        names += ["learning_rate", "l1", "l2", *OPTIMIZERS[configuration.optimizer].hyperparameters]
        names += ["momentum"] * (configuration.momentum_type != "none")
        if not callable(configuration.schedule):
            names += SCHEDULES[configuration.schedule].hyperparameters
    return tuple(dict.fromkeys(names))


def fields_of(configuration: Configuration) -> tuple[str, ...]:
    """Configuration fields that have an effect under one configuration, without those that custom functions read."""
    c = configuration
    idle = set() if set(c.diagnostics) - {"update_cosine"} else {"probe"}
    return tuple(
        name
        for name, field in CONFIGURATION.items()
        if name not in idle
        and (not field.read_by or c.model in field.read_by or c.optimizer in field.read_by)
    )


def checked_configuration(name: str, value: Any, where: str = "configuration") -> Any:
    """A configuration value in canonical form; a name of the user's own takes anything hashable."""
    check = CONFIGURATION[name].check if name in CONFIGURATION else static
    return check(f"{where}.{name}", value)


def checked_hyperparameter(name: str, value: Any, where: str = "hyperparameters") -> float | int:
    """A hyperparameter's value in canonical form; a name of the user's own takes any finite number."""
    check = _HYPERPARAMETERS[name].check if name in _HYPERPARAMETERS else number()
    return check(f"{where}.{name}", value)
