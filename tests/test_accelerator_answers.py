"""Answers to the accelerator questions: the sentences and tables made of rows, and the functions behind them."""

import gzip
import json
import sys
import time

import jax
import numpy as np
import pytest

from accelerator_questions import (
    alternatives,
    determinism,
    kernels,
    lowerings,
    machine,
    neighbours,
    stopping,
    study,
    widths,
)
from accelerator_questions.asking import Asking


def rounded(values, bits):
    """float32 values with so many stored bits of their fraction, to the nearest."""
    as_bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    unit = np.uint64(1 << (23 - bits))
    return ((as_bits + unit // np.uint64(2)) // unit * unit).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize(
    ("bits", "words"), [(23, "float32"), (10, "TF32 (10 bits)"), (7, "bfloat16 (7 bits)")]
)
def test_the_precision_is_recognised_by_the_error_of_a_product(bits, words):
    a, b = np.random.default_rng(0).normal(size=(2, 200, 200)).astype(np.float32)
    exact = a.astype(np.float64) @ b
    found = rounded(a, bits).astype(np.float64) @ rounded(b, bits)
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert machine.rounding(error).startswith(words)


def test_other_precisions_are_not_called_by_a_name():
    assert machine.rounding(2e-5).startswith("about 14 bits, neither")
    assert machine.rounding(0.0) == "float32 (23 bits)"


MACHINE = [
    {"kind": "device", "device_kind": "Fake GPU", "memory_bytes": 2**30, "runtime": "CUDA 13"},
    {"kind": "product", "name": "float32, default", "n": 8, "flops_per_second": 4e14, "error": 2.7e-4},
    {"kind": "product", "name": "float32, highest", "n": 8, "refused": "out of memory"},
    {"kind": "copy", "bytes": 8, "bytes_per_second": 2e12},
]


def test_what_the_machine_says():
    says, (products, device) = machine.answer(MACHINE)
    assert says[0] == "float32 at JAX's default precision has a relative error of 2.7e-04: TF32 (10 bits)."
    assert "400 TFLOP/s (float32, default)" in says[1]
    assert says[2] == "Copying reads and writes at 2,000 GB/s."
    assert products.rows[1][-1] == "absent: out of memory"
    assert ["memory that JAX may use", "1,024.0 MiB"] in [list(row) for row in device.rows]
    assert machine.ceilings({"machine": MACHINE}) == (4e14, 2e12)
    assert machine.ceilings({}) == (None, None)


def test_losses_are_compared_where_both_are_finite():
    found = np.array([[2.0, 1.0, 0.5], [2.0, np.nan, np.nan], [4.0, 2.2, 1.0]])
    rows = study.differences(found, [[2.0, 1.0], [1.0, 5.0], [4.0, 2.0]])
    assert [row["epoch"] for row in rows] == [0, 1]
    assert (rows[0]["median"], rows[0]["largest"], rows[0]["trials"]) == (0, 1, 3)
    assert (rows[1]["median"], rows[1]["trials"]) == (pytest.approx(0.05), 2)
    assert rows[1]["largest"] == pytest.approx(0.1)


def bits(**changes):
    return {"loss at epoch 1": "a", "state.w": "b"} | changes


def test_bits_that_differ_are_named():
    here = {name: bits() for name in neighbours.RUNS}
    there = {name: bits() for name in neighbours.OTHER_PROCESS}
    equal = neighbours.comparisons(here, there)
    assert not any(equal["differs"].values())
    assert not any(equal["other process"].values())
    here["diverging neighbours"] = {**bits(), "state.w": "c"}
    there["reference"] = {"loss at epoch 1": "z"}
    found = neighbours.comparisons(here, there)
    assert found["differs"]["diverging neighbours"] == ["state.w"]
    assert found["differs"]["again"] == []
    assert found["other process"]["reference"] == ["loss at epoch 1", "state.w"]


def test_every_job_is_compared_with_the_same_job_of_the_second_process(monkeypatch, tmp_path):
    """Bits that depend on options and width, as on a device where kernels are chosen by timing."""

    def found(job, runs):
        own = bits(**{"state.w": f"{job['letter']} at {job['width']}"})
        return {"bits": dict.fromkeys(runs, own), "diverged": 3}

    monkeypatch.setattr(neighbours, "found", found)
    script = tmp_path / "second.py"
    script.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    job = json.loads(line)\n"
        "    own = {'loss at epoch 1': 'a', 'state.w': f\"{job['letter']} at {job['width']}\"}\n"
        f"    print(json.dumps([job, {{name: own for name in {list(neighbours.OTHER_PROCESS)}}}]), flush=True)\n"
    )
    monkeypatch.setattr(neighbours.SecondProcess, "command", [sys.executable, str(script)])
    asked = Asking(tmp_path / "rows", time.time() + 600, False, {}, neighbours.answer)
    neighbours.ask(asked)
    assert len(asked.rows) == 9
    for row in asked.rows:
        assert not any(row["other process"].values()), row


def neighbour_row(options="a", width=8, diverged=7, **changed):
    here = {name: bits() for name in neighbours.RUNS} | {
        name: bits(**value) for name, value in changed.items()
    }
    there = {name: bits() for name in neighbours.OTHER_PROCESS}
    row = {"options": options, "words": "so", "width": width, "diverged": diverged}
    return row | neighbours.comparisons(here, there)


def test_what_is_said_of_neighbours():
    rows = [neighbour_row(width=8), neighbour_row(width=64), neighbour_row("c", again={"state.w": "x"})]
    says, (table,) = neighbours.answer(rows)
    assert says == [
        "Bitwise equal in all 14 comparisons under (a), in **6 of 7** comparisons under (c).",
        "(a) so: equal.",
        "(c) so: **NOT equal**. The first failed comparison is again at width 8: 1 array differs, first state.w.",
    ]
    assert table.rows[2][2:4] == ["differs: state.w", "equal"]
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_a_comparison_that_says_nothing_is_told():
    says, _ = neighbours.answer([neighbour_row(diverged=0)])
    assert says[2] == "At width 8, no neighbour diverged, so the comparison with diverging ones is void."
    here = {name: bits() for name in neighbours.RUNS}
    row = {"options": "a", "words": "so", "width": 8, "diverged": 7} | neighbours.comparisons(
        here, "it crashed"
    )
    says, (table,) = neighbours.answer([row, {"options": "b", "words": "x", "width": 8, "refused": "no"}])
    assert says == [
        "Bitwise equal in all 5 comparisons under (a).",
        "(a) so: equal.",
        "Not compared with a second process: it crashed.",
    ]
    assert {len(row) for row in table.rows} == {len(table.columns)}


def rate_row(options, rate, cell="a", trials=4, **more):
    row = {"kind": "rate", "cell": cell, "trials": trials, "options": options, "words": f"words {options}"}
    spread = {"rate_lower": rate, "rate_upper": rate, "compile_seconds": 2.0, "memory_bytes": 2**20}
    return row | {"rate": rate} | spread | more


def test_what_is_said_of_determinism():
    rows = [rate_row("a", 50.0), rate_row("b", 90.0), rate_row("c", 100.0)]
    rows += [rate_row("a", 80.0, "b"), rate_row("c", 100.0, "b")]
    rows += [{"kind": "rate", "cell": "b", "trials": 4, "options": "b", "refused": "out of memory"}]
    rows += [{"kind": "model", "name": "(a)", "result": "refused (no form)"}]
    says, (table,) = determinism.answer(rows)
    assert says[0] == (
        "Rates against (c), any operation and tuned kernels: (a) words a: 0.50 to 0.80 ×; (b) words b: 0.90 ×. "
        "Median time to compile: (a) 2.0 s, (b) 2.0 s, (c) 2.0 s."
    )
    assert says[1] == "A model with `nnx.max_pool`: (a): refused (no form)."
    assert table.rows[0][4] == "0.50 ×"
    assert table.rows[-1][-1] == "absent: out of memory"


def tuning_row(name, **more):
    return {"kind": "tuning", "name": name, "options": {"x": 1}, "compile_seconds": 4.0} | more


def test_what_is_said_of_tuning_results():
    rows = [tuning_row("tuned, results stored", file_bytes=1234, files=3, equal=True)]
    rows += [tuning_row("second process, results loaded from the file", compile_seconds=1.0, equal=True)]
    rows += [tuning_row("second process, tuned anew", equal=False)]
    says, (table,) = determinism.answer(rows)
    assert says == [
        "Tuning results are stored: a file of 1,234 bytes, and 3 files in the folder.",
        "Second process, results loaded from the file: the same bits, compiled in 1.0 s instead of 4.0 s.",
        "Second process, tuned anew: **different bits**, compiled in 4.0 s instead of 4.0 s.",
    ]
    assert [row[2] for row in table.rows] == ["yes", "yes", "no"]
    says, _ = determinism.answer([tuning_row("tuned, results stored", options={})])
    assert says[0].startswith("Tuning results cannot be stored here")


LAYERS = [
    lowerings.Layer(2, (6, 5), 3, 4, 3, 1, 1, 1),
    lowerings.Layer(2, (7, 6), 5, 2, 3, 2, 1, 1),
    lowerings.Layer(1, (8, 8), 5, 4, 3, 1, 2, 1),
    lowerings.Layer(2, (9,), 5, 4, 5, 2, 1, 1),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.words)
def test_one_product_a_tap_is_the_convolution(layer):
    x = np.random.default_rng(0).normal(size=(layer.batch, *layer.spatial, layer.channels)).astype(np.float32)
    shape = (*(layer.kernel,) * len(layer.spatial), layer.channels, layer.features)
    k = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    expected = lowerings.LOWERINGS["native"](x, k, layer)
    np.testing.assert_allclose(lowerings.taps(x, k, layer), expected, rtol=1e-4, atol=1e-5)


def test_flops_and_bytes_of_a_layer_by_hand():
    # 2 × 6·5 places, a window of 9·8, 4 features; patches of 9 times the input.
    deep = lowerings.Case(lowerings.Layer(2, (6, 5), 8, 4, 3, 1, 1, 1), 3, True)
    assert lowerings.flops(deep) == 3 * 3 * 2 * (2 * 30) * (9 * 8) * 4
    x, y = 3 * 2 * 30 * 8, 3 * 2 * 30 * 4
    assert lowerings.traffic(deep, "native") == 4 * (2 * x + 2 * y + y + x)
    assert lowerings.traffic(deep, "product") == 4 * (x + 3 * 9 * x + 2 * y + y + 2 * 9 * x + x)
    assert lowerings.traffic(deep, "taps") == 4 * 9 * (2 * x + 3 * y + y + 2 * x)
    # A first layer: inputs and patches are shared by the trials, and no gradient goes further.
    first = lowerings.Case(lowerings.Layer(2, (6, 5), 1, 4, 3, 1, 1, 1), 3, False)
    x, y = 2 * 30, 3 * 2 * 30 * 4
    assert lowerings.flops(first) == 3 * 2 * 2 * (2 * 30) * 9 * 4
    assert lowerings.traffic(first, "product") == 4 * (x + 3 * 9 * x + 2 * y)


def test_the_important_shapes_come_first_and_none_twice():
    found = lowerings.cases(small=False)
    assert len(found) == len(set(found))
    assert [(case.layer.spatial, case.trials, case.own) for case in found[:4]] == [
        ((8, 8), 256, False),
        ((14, 14), 256, True),
        ((8, 8), 16, False),
        ((14, 14), 16, True),
    ]
    assert {case.trials for case in found} == {1, 16, 256, 1024}
    from measure_lowerings import SHAPES

    assert {case.layer for case in found} == {lowerings.Layer(*shape[:-1]) for shape in SHAPES}


def lowering_row(lowering, seconds, layer="one", trials=16, **more):
    row = {
        "layer": layer,
        "trials": trials,
        "own": True,
        "options": "a",
        "lowering": lowering,
        "seconds": seconds,
    }
    return row | {"flops": 1e9, "bytes": 2e9, "share_of_product": 0.125, "share_of_copy": 0.5} | more


def test_what_is_said_of_lowerings():
    rows = [lowering_row("product", 1e-3), lowering_row("native", 2e-3), lowering_row("product", 3e-3, "two")]
    rows += [{**lowering_row("native", 0, "two"), "refused": "out of memory"}]
    del rows[-1]["seconds"]
    rows += [lowering_row("native", 5e-4, trials=256), lowering_row("product", 2e-3, trials=256)]
    says, tables = lowerings.answer(rows)
    assert says[0] == (
        "Fastest: T = 16: product for 2 of 2 layers (by 1.00 to 2.00 ×); T = 256: native for 1 of 1 layers "
        "(by 4.00 ×)."
    )
    assert says[1] == (
        "At T = 256, the product moves bytes at 50 % of the rate of copying and computes at 12 % of the rate of a "
        "large product (medians over layers): memory is the nearer limit."
    )
    assert tables[0].rows[1] == ["one", "native", "2,000", "0.50 ×", "500", "12 %", "1,000", "50 %"]
    assert tables[0].rows[3][-1] == "absent: out of memory"
    says, _ = lowerings.answer([lowering_row("product", 1e-3, share_of_product=None, share_of_copy=None)])
    assert says[1] == "The device's limits are unknown: ask `machine`, too."


def width_row(width, rate):
    row = {"kind": "width", "cell": "a", "width": width, "memory_bytes": 2**20, "peak_bytes": None}
    return row | {"rate": rate, "rate_lower": rate, "rate_upper": rate, "compile_seconds": 1.0}


def test_what_is_said_of_widths():
    automatic = {
        "kind": "automatic",
        "cell": "a",
        "trials": 64,
        "rule_of_thumb": 256,
        "chosen": 16,
        "seconds": 9.0,
    }
    rows = [width_row(1, 10.0), width_row(16, 90.0), width_row(64, 100.0)]
    rows += [{"kind": "width", "cell": "a", "width": 256, "refused": "out of memory"}]
    rows += [automatic | {"compile_seconds": 2.0, "tried": [16, 64]}]
    says, (table,) = widths.answer(rows)
    assert says == [
        "a: width 64 is the fastest, 100 trial-steps/s, 10.0 × the rate of width 1; automatic width chooses 16 (90 % "
        "of that rate) in 9 s."
    ]
    assert table.rows[1][2] == "90 %"
    assert table.rows[3][-1] == "absent: out of memory"
    assert widths.best_width({"widths": rows}, "a") == 64
    assert widths.best_width({"widths": rows}, "b") is None


def contender(name, trials, seconds, **more):
    row = {"cell": "8x8", "trials": trials, "contender": name, "precision": "p", "trials_run": trials}
    row |= {"rate": 60 / seconds, "rate_lower": 1.0, "rate_upper": 2.0, "trial_steps_per_call": 60}
    return row | {"seconds": [seconds]} | more


def test_what_is_said_of_alternatives():
    product = {"size": 8, "flops_per_second": 1e12, "seconds": [1.0], "others_share": None}
    rows = []
    for trials in (16, 64):
        rows.append({"cell": "8x8", "trials": trials, "contender": "matmul", "precision": "p"} | product)
        rows += [
            contender("jaxlab", trials, 1.0),
            contender("loop", trials, 4.0),
            contender("vmap", trials, 3.0),
        ]
    rows.append(
        {"cell": "8x8", "trials": 64, "contender": "scan", "precision": "p", "absent": "other", "wrong": True}
    )
    says, (table,) = alternatives.answer(rows)
    assert says == [
        "8x8 at p: jaxlab's speedup over the fastest other contender is 3.00 × (vmap, N = 16), 3.00 × (vmap, N = 64).",
        "Refused because of wrong losses: scan.",
    ]
    assert len(table.rows) == len(rows)


def test_losses_may_differ_more_where_the_device_rounds(monkeypatch):
    from benchmark.problem import disagreement

    reference = np.full((1, 4), 2.0)
    found = reference * 1.05
    assert disagreement(found, reference)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not disagreement(found, reference)
    assert disagreement(reference * 1.2, reference)
    with jax.default_matmul_precision("float32"):
        assert disagreement(found, reference)


def event(name, start, duration, process=1, line=1, **arguments):
    return {
        "ph": "X",
        "name": name,
        "ts": start,
        "dur": duration,
        "pid": process,
        "tid": line,
        "args": arguments,
    }


def named(kind, name, process, line=0):
    return {"ph": "M", "name": kind, "pid": process, "tid": line, "args": {"name": name}}


def test_kernels_of_a_gpus_trace():
    events = [
        named("process_name", "/device:GPU:0", 1),
        named("process_name", "/host:CPU", 2),
        named("thread_name", "Stream #13(Compute)", 1, 1),
        named("thread_name", "XLA Modules", 1, 2),
        named("thread_name", "python", 2, 1),
        event("gemm_128x64", 0, 30, hlo_op="dot.1"),
        event("gemm_128x64", 40, 20, hlo_op="dot.1"),
        event("loop_add_fusion", 60, 10, hlo_op="fusion.7"),
        event("jit_segment", 0, 100, line=2),
        event("PjitFunction", 0, 500, 2, hlo_op="no"),
        {"ph": "X", "pid": 1, "tid": 1, "name": "memset", "ts": 80},
    ]
    found = kernels.kernels(events)
    assert [(each.name, each.operation, each.calls) for each in found] == [
        ("gemm_128x64", "dot.1", 2),
        ("loop_add_fusion", "fusion.7", 1),
        ("memset", "", 1),
    ]
    assert [each.seconds for each in found] == pytest.approx([50e-6, 10e-6, 0])
    assert kernels.products(found) == pytest.approx(50 / 60)


def test_kernels_of_a_cpus_trace_are_without_what_runs_inside_them():
    events = [
        named("process_name", "/host:CPU", 1),
        event("while.1", 0, 100, hlo_op="while.1"),
        event("fusion.2", 10, 30, hlo_op="fusion.2"),
        event("fusion.2", 50, 30, hlo_op="fusion.2"),
        event("dot.3", 55, 5, hlo_op="dot.3"),
        event("fusion.2", 0, 7, line=2, hlo_op="fusion.2"),
        event("Execute", 0, 1000),
    ]
    found = {each.name: (each.calls, each.seconds) for each in kernels.kernels(events)}
    assert found["while.1"] == (1, pytest.approx(40e-6))
    assert found["fusion.2"] == (3, pytest.approx((30 + 25 + 7) * 1e-6))
    assert found["dot.3"] == (1, pytest.approx(5e-6))
    assert set(found) == {"while.1", "fusion.2", "dot.3"}


def test_a_trace_is_read_from_where_the_profiler_leaves_it(tmp_path):
    folder = tmp_path / "plugins" / "profile" / "now"
    folder.mkdir(parents=True)
    with gzip.open(folder / "host.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": [event("a", 0, 1)]}, file)
    assert kernels.read_trace(tmp_path) == [event("a", 0, 1)]
    with pytest.raises(FileNotFoundError, match=r"trace\.json\.gz"):
        kernels.read_trace(tmp_path / "nothing")


def test_what_is_said_of_kernels():
    segment = {
        "kind": "segment",
        "cell": "a",
        "width": 4,
        "steps": 2,
        "wall_seconds": 0.02,
        "busy_seconds": 0.01,
    }
    rows = [segment | {"kernels": 7, "products": 0.25}]
    rows += [
        {
            "kind": "kernel",
            "width": 4,
            "name": name,
            "operation": "o",
            "calls": 1,
            "seconds": 0.004,
            "share": 0.4,
        }
        for name in ("x", "y")
    ]
    says, (table,) = kernels.answer(rows)
    assert says == [
        "4 trials of a: kernels run for 10 ms of a segment's 20 ms. Products and convolutions take 25 % of the time of "
        "kernels, the most expensive kernel 40 %, and the 2 of 7 kernels shown 80 %."
    ]
    assert table.rows[0] == ["x", "o", "1", "4 ms", "40.0 %"]


def test_what_is_said_of_stopping():
    rows = [
        {
            "kind": "stopping", "cell": "a", "trials": 64, "epochs": 40, "stopped_epoch": 4, "ideal": 0.325,
            "share": 0.5, "widths": {"full": 4, "stopping": 2}, "seconds": {"full": [8.0], "stopping": [4.0]},
        },
        {"kind": "resident", "resident": 2, "packs": 2, "seconds_per_epoch": 1.0, "pack_bytes": 2**30},
        {"kind": "resident", "resident": 0, "packs": 2, "seconds_per_epoch": 3.0, "pack_bytes": 2**30},
        {"kind": "folder", "trials": 64, "epochs": 40, "seconds": {"with": [4.2], "without": [4.0]}},
        {"kind": "folder", "absent": "zarr is not installed"},
    ]  # fmt: skip
    says, _ = stopping.answer(rows)
    assert (
        "stop after 4 of 40 epochs take 50.0 % of the time of the full study (4.00 s at width 2, 8.00 s"
        in says[0]
    )
    assert says[1] == (
        "With the states of 2 of 2 packs in host memory, an epoch takes 3.00 × as long (1,024.0 MiB per pack, 2.1 GB/s "
        "in both directions)."
    )
    assert says[2].startswith("A run folder costs 5.0 % (64 trials, 40 epochs: 4.20 s with, 4.00 s without)")
    assert says[3] == "The cost of a run folder was not measured: zarr is not installed."
