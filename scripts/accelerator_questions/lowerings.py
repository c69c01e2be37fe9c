"""Which lowering of a convolution is fastest with many kernels, and does memory or arithmetic limit it?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from accelerator_questions.asking import Answer, Asking, Row, Table
from accelerator_questions.machine import ceilings
from accelerator_questions.measuring import FAILURES, OptionSet, by, option_sets, reason, timed
from benchmark.report import number
from benchmark.timing import spread
from jaxlab.convolution import conv_general_dilated
from jaxlab.convolution.geometry import Geometry, geometry_of
from jaxlab.engine.determinism import deterministic_options
from measure_lowerings import SHAPES

#: Steps in one call, a loop in which each step changes the kernels, as in training.
STEPS = 8
_NUMBERS = (("NWC", "WIO", "NWC"), ("NHWC", "HWIO", "NHWC"))


class Layer(NamedTuple):
    """The shape of one convolution, as in ``scripts/measure_lowerings.py``."""

    batch: int
    spatial: tuple[int, ...]
    channels: int
    features: int
    kernel: int
    stride: int
    dilation: int
    groups: int

    @property
    def first(self) -> bool:
        """Whether it is the first layer of a network, whose inputs are shared and need no gradient."""
        return self.channels <= 4

    @property
    def depthwise(self) -> bool:
        return self.channels == self.features == self.groups > 1

    @property
    def geometry(self) -> Geometry:
        axes = len(self.spatial)
        strides, dilation = (self.stride,) * axes, (self.dilation,) * axes
        return geometry_of(self.spatial, (self.kernel,) * axes, strides, "SAME", dilation, self.groups)

    @property
    def words(self) -> str:
        """Its description in the tables."""
        more = [f"stride {self.stride}"] * (self.stride > 1) + [f"dilation {self.dilation}"] * (
            self.dilation > 1
        )
        more += [f"{self.groups} groups"] * (self.groups > 1)
        window = "×".join([str(self.kernel)] * len(self.spatial))
        size = "×".join(map(str, (*self.spatial, self.channels)))
        return ", ".join([f"{self.batch} of {size} to {self.features}, {window}", *more])


class Case(NamedTuple):
    """A layer, the number of mapped kernels, whether each has separate inputs, and the letter of the options."""

    layer: Layer
    trials: int
    own: bool
    options: str = "a"

    @property
    def words(self) -> str:
        own = "separate" if self.own else "shared"
        return f"{self.layer.words}, T = {self.trials}, {own} inputs, options ({self.options})"


def ask(asking: Asking) -> None:
    """Measure all shapes, the important ones first: two layers of a small network, then others, then unusual inputs."""
    for case in asking.in_time(cases(asking.small), lambda case: case.words):
        _measure(asking, case)


def cases(small: bool) -> list[Case]:
    """The cases in order of importance."""
    if small:
        layers = [Layer(2, (4, 4), 1, 2, 3, 1, 1, 1), Layer(2, (4,), 8, 8, 3, 1, 1, 8)]
        return [Case(layer, trials, not layer.first) for layer in layers for trials in (1, 2)]
    layers = [Layer(*shape) for shape in dict.fromkeys(shape[:-1] for shape in SHAPES)]
    important = [
        next(layer for layer in layers if (layer.spatial, layer.channels) == key)
        for key in (((8, 8), 1), ((14, 14), 16))
    ]
    others = [layer for layer in layers if layer not in important]
    found = [Case(layer, trials, not layer.first) for trials in (256, 16) for layer in important]
    found += [Case(layer, 256, not layer.first, "c") for layer in important]
    found += [Case(layer, trials, not layer.first) for trials in (1024, 1) for layer in important]
    found += [Case(layer, trials, not layer.first) for trials in (256, 16, 1024, 1) for layer in others]
    return found + [Case(layer, 256, layer.first) for layer in layers]


def _measure(asking: Asking, case: Case) -> None:
    """Time each lowering, in turns."""
    chosen = next(each for each in option_sets() if each.letter == case.options)
    names = [name for name in LOWERINGS if name not in _LIMITED or _LIMITED[name](case.layer)]
    runs: dict[str, Callable[[int], Any]] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            runs[name] = run = _calls(*program(case, LOWERINGS[name], chosen))
            run(1)
        except FAILURES as error:
            runs.pop(name, None)
            refused[name] = reason(error)
    seconds = timed(runs, asking.small)
    flops_limit, bytes_limit = ceilings(asking.earlier)
    for name in names:
        row: Row = {
            "layer": case.layer.words,
            "trials": case.trials,
            "own": case.own,
            "options": case.options,
        }
        row |= {"lowering": name}
        if name in refused:
            asking.row(**row, refused=refused[name])
            continue
        each = spread(seconds[name]).median / STEPS
        row |= {"seconds": each, "flops": flops(case), "bytes": traffic(case, name)}
        row["share_of_product"] = None if flops_limit is None else row["flops"] / each / flops_limit
        row["share_of_copy"] = None if bytes_limit is None else row["bytes"] / each / bytes_limit
        asking.row(**row)


def program(case: Case, convolution: Callable, chosen: OptionSet) -> tuple[Callable, tuple]:
    """A compiled loop of `STEPS` steps and its arguments: forward pass and both gradients (a first layer has one)."""
    layer = case.layer
    rng = np.random.default_rng(0)
    inputs = (layer.batch, *layer.spatial, layer.channels)
    kernel = ((layer.kernel,) * len(layer.spatial)) + (layer.channels // layer.groups, layer.features)
    x = rng.normal(size=(case.trials, *inputs) if case.own else inputs).astype(np.float32)
    k = rng.normal(size=(case.trials, *kernel)).astype(np.float32)

    def loss(x: jax.Array, k: jax.Array) -> jax.Array:
        return jnp.sum(jax.nn.relu(convolution(jax.nn.relu(x), k, layer)))

    def step(_: Any, carry: tuple, x: jax.Array) -> tuple:
        k, shift = carry
        if layer.first:
            return k - 1e-9 * jax.grad(loss, 1)(x + shift, k), shift
        of_x, of_k = jax.grad(loss, (0, 1))(x + shift, k)
        return k - 1e-9 * of_k, 1e-9 * of_x.reshape(-1, layer.channels)[0]

    def train(x: jax.Array, k: jax.Array) -> jax.Array:
        return lax.fori_loop(0, STEPS, partial(step, x=x), (k, jnp.zeros(layer.channels)))[0]

    options = dict(deterministic_options(jax.default_backend()) if chosen.deterministic else {}) | dict(
        chosen.options
    )
    mapped = jax.jit(jax.vmap(train, in_axes=(0 if case.own else None, 0)))
    arguments = jax.device_put((x, k))
    return mapped.lower(*arguments).compile(options or None), arguments


def _lowered(name: str) -> Callable:
    def convolution(x: jax.Array, k: jax.Array, layer: Layer) -> jax.Array:
        axes = len(layer.spatial)
        return conv_general_dilated(
            x,
            k,
            (layer.stride,) * axes,
            "SAME",
            rhs_dilation=(layer.dilation,) * axes,
            dimension_numbers=_NUMBERS[axes - 1],
            feature_group_count=layer.groups,
            lowering=name,
        )

    return convolution


def taps(x: jax.Array, k: jax.Array, layer: Layer) -> jax.Array:
    """Compute a convolution without groups as a sum of matrix products, one for each tap; it needs no patches."""
    g = layer.geometry
    x = jnp.pad(x, [(0, 0), *g.pads, (0, 0)])
    y = 0
    for index in itertools.product(*map(range, g.window)):
        start = [i * d for i, d in zip(index, g.dilation, strict=True)]
        stop = [i + (n - 1) * s + 1 for i, n, s in zip(start, g.output, g.strides, strict=True)]
        part = lax.slice(x, (0, *start, 0), (x.shape[0], *stop, x.shape[-1]), (1, *g.strides, 1))
        y = y + part @ k[index]
    return y


LOWERINGS: Mapping[str, Callable] = {
    name: _lowered(name) for name in ("product", "remat", "native", "sum")
} | {"taps": taps}
_LIMITED: Mapping[str, Callable[[Layer], bool]] = {
    "sum": lambda layer: layer.depthwise,
    "taps": lambda layer: layer.groups == 1,
}


def flops(case: Case) -> int:
    """FLOP of one step of all trials: forward pass, gradient of the kernel, and of the inputs if they need one."""
    layer = case.layer
    places = layer.batch * math.prod(layer.geometry.output)
    window = layer.kernel ** len(layer.spatial) * layer.channels // layer.groups
    return 2 * places * window * layer.features * case.trials * (2 if layer.first else 3)


def traffic(case: Case, lowering: str) -> int:
    """Least number of bytes that one step of all trials reads and writes, without those of kernels.

    Every array is read and written once for each product that needs it. ``product`` also writes the patches, reads them
    twice (forward and for the gradient of the kernel), and writes and reads their cotangent. ``remat`` writes the
    patches once more instead of keeping them. ``taps`` reads the inputs and adds to the outputs once for every tap.
    """
    layer = case.layer
    window = layer.kernel ** len(layer.spatial)
    places = math.prod(layer.geometry.output)
    inputs = layer.batch * math.prod(layer.spatial) * layer.channels * (case.trials if case.own else 1)
    patches = layer.batch * places * window * layer.channels * (case.trials if case.own else 1)
    outputs = layer.batch * places * layer.features * case.trials
    cotangent = layer.batch * math.prod(layer.spatial) * layer.channels * case.trials
    if lowering in ("product", "remat"):
        count = inputs + (3 + (lowering == "remat")) * patches + 2 * outputs + (lowering == "remat") * inputs
        back = outputs + 2 * patches * (1 if case.own else case.trials) + cotangent
    elif lowering == "taps":
        count = window * (2 * inputs + 3 * outputs)
        back = window * (outputs + 2 * cotangent)
    else:
        count = 2 * inputs + 2 * outputs
        back = outputs + cotangent
    return 4 * (count + (0 if layer.first else back))


def answer(rows: Sequence[Row]) -> Answer:
    """The fastest lowering for each T, and what limits the product."""
    measured = [row for row in rows if "seconds" in row]
    says = []
    trials = sorted({row["trials"] for row in measured})
    if trials:
        says.append(
            "Fastest: "
            + "; ".join(_winners(by(measured, options="a", trials=count)) for count in trials)
            + "."
        )
    says += _limits(by(measured, lowering="product", options="a"))
    tables = []
    for case in dict.fromkeys((row["trials"], row["own"], row["options"]) for row in rows):
        part = by(rows, trials=case[0], own=case[1], options=case[2])
        tables.append(
            Table(
                _COLUMNS,
                _cells(part),
                f"T = {case[0]}, {'separate' if case[1] else 'shared'} inputs, options ({case[2]}):",
            )
        )
    return Answer(says, tables)


_COLUMNS = (
    "layer",
    "lowering",
    "µs per step",
    "speedup over product",
    "GFLOP/s",
    "of a large product's rate",
    "GB/s",
    "of the rate of copying",
)


def _winners(rows: Sequence[Row]) -> str:
    """The fastest lowering of each layer and its lead over the second, in words."""
    won: dict[str, list[float]] = {}
    layers = dict.fromkeys((row["layer"], row["own"]) for row in rows)
    for layer, own in layers:
        times = {row["lowering"]: row["seconds"] for row in by(rows, layer=layer, own=own)}
        best, *others = sorted(times, key=times.__getitem__)
        won.setdefault(best, []).append(times[others[0]] / times[best] if others else 1.0)
    parts = [
        f"{name} for {len(factors)} of {len(layers)} layers (by {_span(factors)} ×)"
        for name, factors in won.items()
    ]
    return f"T = {rows[0]['trials']}: {', '.join(parts)}" if rows else ""


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.2f}" + (f" to {max(values):.2f}" if len(values) > 1 else "")


def _limits(rows: Sequence[Row]) -> list[str]:
    """How close the product comes to the device's limits."""
    known = [row for row in rows if row["share_of_copy"] is not None and row["share_of_product"] is not None]
    if not known:
        return ["The device's limits are unknown: ask `machine`, too."] if rows else []
    most = max(row["trials"] for row in known)
    parts = by(known, trials=most)
    copy, product = (
        np.median([row[name] for row in parts]) for name in ("share_of_copy", "share_of_product")
    )
    bound = "memory" if copy > product else "arithmetic"
    return [
        f"At T = {most}, the product moves bytes at {100 * copy:.0f} % of the rate of copying and computes at "
        f"{100 * product:.0f} % of the rate of a large product (medians over layers): {bound} is the nearer limit."
    ]


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    product = {row["layer"]: row["seconds"] for row in by(rows, lowering="product") if "seconds" in row}
    cells = []
    for row in rows:
        head = [row["layer"], row["lowering"]]
        if "refused" in row:
            cells.append([*head, "–", "–", "–", "–", "–", f"absent: {row['refused']}"])
            continue
        ratio = f"{product[row['layer']] / row['seconds']:.2f} ×" if row["layer"] in product else ""
        rates = [row["flops"] / row["seconds"], row["bytes"] / row["seconds"]]
        shares = [row["share_of_product"], row["share_of_copy"]]
        cells.append([*head, f"{1e6 * row['seconds']:,.0f}", ratio])
        for rate, share in zip(rates, shares, strict=True):
            cells[-1] += [number(rate / 1e9), "" if share is None else f"{100 * share:.0f} %"]
    return cells


def _calls(run: Callable, arguments: tuple) -> Callable[[int], None]:
    def calls(count: int) -> None:
        for _ in range(count):
            last = run(*arguments)
        jax.block_until_ready(last)

    return calls
