"""How fast are products and copies on this device, and what is JAX's default precision?"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from accelerator_questions.asking import Answer, Asking, Row, Table
from accelerator_questions.measuring import FAILURES, by, reason, timed
from benchmark.report import size
from benchmark.timing import spread

#: Dtype of the factors and `jax.default_matmul_precision`, by name.
PRODUCTS = {
    "float32, default": ("float32", None),
    "float32, highest": ("float32", "highest"),
    "float32, tensorfloat32": ("float32", "tensorfloat32"),
    "bfloat16": ("bfloat16", None),
}
_DEFAULT = "float32, default"
#: Rounding to p significant bits gives a product of normally distributed numbers this relative error times 2⁻ᵖ.
_ERROR = 0.555


def ask(asking: Asking) -> None:
    """Describe the device; time products by precision, and copying."""
    asking.row(kind="device", **_device())
    n = 256 if asking.small else 8192
    a, b = (jax.random.normal(jax.random.key(seed), (n, n)) for seed in (0, 1))
    reference = np.asarray(a[:64], np.float64) @ np.asarray(b[:, :512], np.float64)
    for name, (dtype, precision) in PRODUCTS.items():
        row: Row = {"kind": "product", "name": name, "n": n}
        try:
            factors = a.astype(dtype), b.astype(dtype)
            product = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))
            with jax.default_matmul_precision(precision):
                found = np.asarray(product(*factors)[:64, :512], np.float64)
                seconds = timed({name: _calls(lambda p=product, f=factors: p(*f))}, asking.small)[name]
        except FAILURES as error:
            asking.row(**row, refused=reason(error))
            continue
        error = float(np.linalg.norm(found - reference) / np.linalg.norm(reference))
        asking.row(**row, flops_per_second=2 * n**3 / spread(seconds).median, error=error, seconds=seconds)
    count = 2**22 if asking.small else 2**30
    seconds = timed({"copy": _copies(count)}, asking.small)["copy"]
    asking.row(kind="copy", bytes=count, bytes_per_second=2 * count / spread(seconds).median, seconds=seconds)


def answer(rows: Sequence[Row]) -> Answer:
    """The rates, and the rounding of products."""
    products = {row["name"]: row for row in by(rows, kind="product")}
    rates = [f"{_teraflops(row)} TFLOP/s ({name})" for name, row in products.items() if "error" in row]
    says = [f"The product of two large matrices runs at {', '.join(rates)}."] if rates else []
    default = products.get(_DEFAULT, {})
    if "error" in default:
        words = rounding(default["error"])
        said = f"float32 at JAX's default precision has a relative error of {default['error']:.1e}: {words}."
        says.insert(0, said)
    for row in by(rows, kind="copy"):
        says.append(f"Copying reads and writes at {row['bytes_per_second'] / 1e9:,.0f} GB/s.")
    facts = [[name, str(value)] for row in by(rows, kind="device") for name, value in _facts(row)]
    columns = ("product", "n", "TFLOP/s", "relative error", "rounding")
    table = [
        [name, str(row["n"]), "–", "–", f"absent: {row['refused']}"]
        if "refused" in row
        else [name, str(row["n"]), _teraflops(row), f"{row['error']:.1e}", rounding(row["error"])]
        for name, row in products.items()
    ]
    return Answer(says, [Table(columns, table), Table(("device", ""), facts)])


def rounding(error: float) -> str:
    """The precision to which the factors of a product with this relative error were rounded, in words."""
    bits = math.log2(_ERROR / error) if error > 0 else math.inf
    if error < 5e-6:
        return "float32 (23 bits)"
    for name, stored in (("TF32", 10), ("bfloat16", 7)):
        if abs(bits - (stored + 1)) < 1:
            return f"{name} ({stored} bits)"
    return f"about {bits - 1:.0f} bits, neither float32 nor TF32 nor bfloat16"


def ceilings(earlier: Any) -> tuple[float | None, float | None]:
    """FLOP/s of products at the default precision and bytes/s of copying, from the rows of this question."""
    rows = earlier.get("machine", [])
    products = [row["flops_per_second"] for row in by(rows, name=_DEFAULT) if "flops_per_second" in row]
    copies = [row["bytes_per_second"] for row in by(rows, kind="copy")]
    return (products or [None])[0], (copies or [None])[0]


def _calls(one: Callable[[], jax.Array]) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in range(calls):
            last = one()
        jax.block_until_ready(last)

    return run


def _copies(size: int) -> Callable[[int], None]:
    """``run(calls)``: each call reads and writes ``size`` bytes, those that the call before it wrote."""
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.zeros(size // 4, jnp.float32)

    def run(calls: int) -> None:
        nonlocal x
        for _ in range(calls):
            x = step(x)
        jax.block_until_ready(x)

    return run


def _device() -> Row:
    device = jax.devices()[0]
    memory = (device.memory_stats() or {}).get("bytes_limit")
    version = getattr(device.client, "platform_version", "").splitlines()
    return {
        "device_kind": device.device_kind,
        "memory_bytes": memory,
        "runtime": "; ".join(version),
    } | _nvidia()


def _nvidia() -> dict[str, str]:
    """What nvidia-smi reports about the first GPU, if there is one."""
    fields = ("driver_version", "memory.total", "clocks.max.sm", "power.limit")
    if shutil.which("nvidia-smi") is None:
        return {}
    query = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True)
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return dict(zip(fields, values, strict=False)) if done.returncode == 0 else {}


def _facts(row: Row) -> list[tuple[str, Any]]:
    words = {
        "device_kind": "kind",
        "memory_bytes": "memory that JAX may use",
        "runtime": "runtime",
        "driver_version": "driver",
        "memory.total": "memory",
        "clocks.max.sm": "highest clock",
        "power.limit": "power limit",
    }
    shown = row | {"memory_bytes": size(row["memory_bytes"])}
    return [(words[name], shown[name]) for name in words if shown.get(name)]


def _teraflops(row: Row) -> str:
    return f"{row['flops_per_second'] / 1e12:.3g}"
