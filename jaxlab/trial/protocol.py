"""What the engine maps: one trial as three pure functions, and what they record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxlab.diagnostics import all_finite

Record = dict[str, jax.Array]


class Variable(NamedTuple):
    """How one recorded array is labelled in the results.

    Attributes:
        long_name: what it is, in words.
        units: its units; ``"1"`` for a pure number.
        dims: names of its own axes, those behind ``trial`` and ``epoch``; e.g. ``("layer",)``.
        comment: conventions a reader must know, or nothing.
        better: "higher" or "lower" where one of them is better, or nothing.
        chance: what the best constant answer scores, or None where that is unknown.
        defined: whether it has a meaning in these trials, as dead units have with a ReLU; where not, 0 is recorded.
    """

    long_name: str
    units: str = "1"
    dims: tuple[str, ...] = ()
    comment: str = ""
    better: str = ""
    chance: float | None = None
    defined: bool = True


def compared_by(better: Mapping[str, str]) -> str:
    """The curve that trials are compared by: of those that are better high or low, the first validation metric by name.

    Where there is none, the validation loss.
    """
    return min((name for name in better if name.startswith("validation_")), default="validation_loss")


class Weights(NamedTuple):
    """What is worth keeping of a trial's state once training is over.

    Attributes:
        kept: ``state -> pytree``, e.g. the parameters and the model's statistics. A function of trees alone: it is
            given traced arrays as well as NumPy arrays of many trials.
        restored: ``(state, kept) -> state``: the state with what was kept put back.
        score: ``record -> scalar`` of an evaluation; larger is better, NaN is never best, and an infinity only while
            no score was finite. With a score, what is kept at the best epoch (epoch 0 included, the first of equals)
            is carried along, and recorded at the end under names that end in ``_at_best``. None keeps the last
            state's alone.
    """

    kept: Callable[[Any], Any]
    restored: Callable[[Any, Any], Any]
    score: Callable[[Record], jax.Array] | None = None


class Trial(NamedTuple):
    """ONE trial as pure functions of its own hyperparameters and state; no axis of trials anywhere.

    The engine maps the three over trials with ``vmap`` and ``shard_map``. It knows no network: the state is any
    pytree, ``shared`` (the data, say) is any pytree of arrays that all trials of the study see, and a record is a
    flat ``dict`` of arrays whose names and shapes are the same at every call.

    Attributes:
        init: ``(hyperparameters, shared) -> state``.
        train_segment: ``(hyperparameters, state, shared, epoch) -> (state, record)`` trains one epoch, the stretch
            between two evaluations. ``epoch`` is a traced int32 scalar that counts from 1 and is the same for all
            trials of a cohort: what depends on it alone (the order of the minibatches) is computed once for a pack.
            The record may hold ``first_bad_step``: the first step of the whole run, counted from 1, after which
            something was not finite, with the state left as it was before that step, or −1; `guarded_scan` does
            both. Without it the engine counts the epoch as one step.
        evaluate: ``(hyperparameters, state, shared, final) -> (state, record)``. With ``final=False`` (a Python
            bool) it is called before training (epoch 0) and after each epoch, with ``final=True`` once at the end,
            where the test set belongs; what it records then has other names. The state may carry a memory of earlier
            evaluations. With ``final=False`` the record may hold ``first_bad_step`` too: the steps taken so far where
            what it measures is not finite, or −1. Then the trial counts as diverged, and keeps this state.
        variables: labels for the records' arrays, by name.
        coordinates: labels along their own axes, by dimension: ``{"layer": ("conv_0", "conv_1")}``.
        sample: ``shared -> smaller shared`` or None: a part of the shared arrays on which an epoch takes a moment and
            each of its steps costs what it costs on the whole. Automatic width is timed on it, else on whole segments.
        weights: what to keep of the state, or None.
        finite: ``state -> bool``: whether a state at the start or after an epoch is finite. By default every value
            counts; what may be infinite by design, as a best value so far is before there is one, is left out here.
    """

    init: Callable[..., Any]
    train_segment: Callable[..., tuple[Any, Record]]
    evaluate: Callable[..., tuple[Any, Record]]
    variables: Mapping[str, Variable] = {}
    coordinates: Mapping[str, Sequence[str]] = {}
    sample: Callable[[Any], Any] | None = None
    weights: Weights | None = None
    finite: Callable[[Any], jax.Array] = all_finite
