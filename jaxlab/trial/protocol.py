"""The contract with the engine: one trial as three pure functions, and labels of what they record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxlab.diagnostics import all_finite

Record = dict[str, jax.Array]
#: A pytree of arrays whose structure only the trial knows: its state, its hyperparameters, the arrays that it shares.
PyTree = Any


class Variable(NamedTuple):
    """Label of a recorded array in the results.

    Attributes:
        long_name: description in words.
        units: units; ``"1"`` for a pure number.
        dims: names of the axes after ``trial`` and ``epoch``; e.g. ``("layer",)``.
        comment: conventions that a reader must know; may be empty.
        better: "higher" or "lower" if one of them is better, else empty.
        chance: score of the best constant answer, or None if unknown.
        defined: whether the variable is meaningful in these trials, as dead units are with ReLU; if not, 0 is recorded.
    """

    long_name: str
    units: str = "1"
    dims: tuple[str, ...] = ()
    comment: str = ""
    better: str = ""
    chance: float | None = None
    defined: bool = True


def comparison_metric(better: Mapping[str, str]) -> str:
    """Name of the variable by which trials are compared: the first validation metric by name, else the validation loss.

    Args:
        better: "higher" or "lower" for each metric, by name.
    """
    return min((name for name in better if name.startswith("validation_")), default="validation_loss")


class Weights(NamedTuple):
    """The part of a trial's state to keep after training.

    Attributes:
        kept: ``state -> pytree`` selects the part to keep, e.g. the parameters and the model's statistics. It must only
            rearrange trees: it receives traced arrays as well as NumPy arrays of many trials.
        restored: ``(state, kept) -> state`` puts the kept part back into a state.
        score: ``record -> scalar`` of an evaluation. Larger is better, NaN is never best, and an infinity is best only
            while no score is finite. With a score, the kept part of the best epoch (epoch 0 included, ties: the
            first) is stored too, and evaluated at the end under names that end in ``_at_best``. With None only the
            last state is kept.
    """

    kept: Callable[[Any], Any]
    restored: Callable[[Any, Any], Any]
    score: Callable[[Record], jax.Array] | None = None


class Trial(NamedTuple):
    """One trial as pure functions of its hyperparameters and state, without a trial axis.

    The engine maps the three functions over trials with ``vmap`` and ``shard_map`` and makes no assumption about a
    network: the state is any pytree, ``shared`` (for example the data) is any pytree of arrays that all trials of the
    study share, and a record is a flat ``dict`` of arrays whose names and shapes are the same at every call.

    Attributes:
        init: ``(hyperparameters, shared) -> state``.
        train_segment: ``(hyperparameters, state, shared, epoch) -> (state, record)`` trains one epoch, the interval
            between two evaluations. ``epoch`` is a traced int32 scalar that counts from 1 and is the same for all
            trials of a cohort: anything that depends only on it (the order of the minibatches) is computed once per
            pack. The record may contain ``first_bad_step``: the first step of the whole run, counted from 1, after
            which a value was not finite, or −1; the state is then that before this step. `guarded_scan` provides
            both. Without ``first_bad_step`` the engine counts an epoch as one step.
        evaluate: ``(hyperparameters, state, shared, final) -> (state, record)``. With ``final=False`` (a Python
            bool) it is called before training (epoch 0) and after each epoch, with ``final=True`` once at the end,
            for the test set; its record then has other names. The state may carry memory of earlier evaluations.
            With ``final=False`` the record may contain ``first_bad_step`` too: the number of steps so far if a
            measured value is not finite, or −1. The trial then counts as diverged and keeps this state.
        variables: labels of the recorded arrays, by name.
        coordinates: labels along the axes of ``Variable.dims``, by dimension: ``{"layer": ("conv_0", "conv_1")}``.
        sample: ``shared -> smaller shared`` or None: a part of the shared arrays on which an epoch is short but each
            step costs as much as on all of them. Automatic width is timed on it, or on whole segments if None.
        weights: the part of the state to keep, or None.
        finite: ``state -> bool``: whether a state at the start or after an epoch is finite. By default every value
            counts; a custom function can leave out values that are infinite by design, such as an initial best loss.
    """

    init: Callable[..., Any]
    train_segment: Callable[..., tuple[Any, Record]]
    evaluate: Callable[..., tuple[Any, Record]]
    variables: Mapping[str, Variable] = {}
    coordinates: Mapping[str, Sequence[str]] = {}
    sample: Callable[[Any], Any] | None = None
    weights: Weights | None = None
    finite: Callable[[Any], jax.Array] = all_finite
