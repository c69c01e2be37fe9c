"""What a study declares, as JSON holds it, and the hash that identifies it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jaxlab.datasets import Dataset
from jaxlab.engine import code_digest
from jaxlab.errors import name_of
from jaxlab.pruning import Rule, plain_rule
from jaxlab.runs import arrays_digest, digest
from jaxlab.store import Data


def described_data(data: Dataset | None, shared: Any) -> Data:
    """A data set, or the arrays that a custom trial shares."""
    if data is None:
        return Data(arrays_digest(shared))
    return Data(
        data.fingerprint(),
        data.name,
        list(data.input_shape),
        data.outputs,
        float(data.scale),
        float(data.shift),
    )


def described_rules(rules: Sequence[Rule]) -> list[Any]:
    """Rules with their fields; a user-defined one by its name and its code."""
    return _rules(rules, lambda rule: {"function": name_of(rule), "code": code_digest(rule)})


def study_hash(data: Data, data_seed: int, rules: Sequence[Rule], keep: str) -> str:
    """Identifies a study: what decides the numbers of its trials, but for settings, epochs and traced programs.

    What programs compute is compared by their fingerprints. A user-defined rule is never traced: its code counts.
    """
    return digest([dataclasses.asdict(data), data_seed, _rules(rules, code_digest), keep])


def _rules(rules: Sequence[Rule], of_function: Callable[[Callable], Any]) -> list[Any]:
    return [plain_rule(rule, of_function) for rule in rules]
