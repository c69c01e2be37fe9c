"""The JSON-serialisable description of a study's data and rules, and the hash that identifies the study."""

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
    """Describe a data set, or the shared arrays of a custom trial."""
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
    """Describe stopping rules: a built-in rule by its fields, a custom one by its name and a digest of its code."""
    return _rules(rules, lambda rule: {"function": name_of(rule), "code": code_digest(rule)})


def study_hash(data: Data, data_seed: int, rules: Sequence[Rule], keep: str) -> str:
    """Hash of all that decides a study's numbers, except settings, epochs and the traced programs.

    Programs are compared separately, by their fingerprints. A custom rule is never traced, so its code is hashed.
    """
    return digest([dataclasses.asdict(data), data_seed, _rules(rules, code_digest), keep])


def _rules(rules: Sequence[Rule], of_function: Callable[[Callable], Any]) -> list[Any]:
    return [plain_rule(rule, of_function) for rule in rules]
