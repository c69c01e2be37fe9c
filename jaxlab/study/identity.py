"""What a study declares, as JSON holds it, and the hash that identifies it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxlab.engine import code_digest
from jaxlab.errors import name_of
from jaxlab.pruning import plain_rule
from jaxlab.runs import arrays_digest, digest, plain
from jaxlab.store import Data, Specification

if TYPE_CHECKING:
    from jaxlab.study.study import Study


def specification(study: Study) -> Specification:
    """What a study declares but its settings; functions by name."""
    return Specification(
        name=study.name,
        data=_data(study),
        epochs=study.epochs,
        data_seed=study.data_seed,
        trial=plain(study.trial),
        rules=_rules(study, lambda rule: {"function": name_of(rule), "code": code_digest(rule)}),
        keep=study.keep,
        deterministic=study.deterministic,
        configuration={name: plain(value) for name, value in study.configuration.items()},
        hyperparameters={name: plain(value) for name, value in study.hyperparameters.items()},
    )


def study_hash(study: Study, data: Data) -> str:
    """Identifies a study: what decides the numbers of its trials, but for settings, epochs and traced programs.

    What programs compute is compared by their fingerprints. A user-defined rule is never traced: its code counts.

    Args:
        study: the study.
        data: as in its `specification`; a digest of all its data takes a while.
    """
    return digest([dataclasses.asdict(data), study.data_seed, _rules(study, code_digest), study.keep])


def _rules(study: Study, of_function: Callable[[Callable], Any]) -> list[Any]:
    return [plain_rule(rule, of_function) for rule in study.rules]


def _data(study: Study) -> Data:
    data = study.data
    if data is None:
        return Data(arrays_digest(study.shared))
    return Data(
        data.fingerprint(),
        data.name,
        list(data.input_shape),
        data.outputs,
        float(data.scale),
        float(data.shift),
    )
