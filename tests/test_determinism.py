"""What is promised where an operation has no deterministic form; the compiler's refusal is simulated."""

import jax
import numpy as np
import pytest
from small import grid, study

from jaxlab import Study, load_study
from jaxlab.engine import clear_programs, compile_programs, make_pack
from jaxlab.engine.determinism import deterministic_options, nondeterministic_operation
from jaxlab.errors import InputError
from jaxlab.settings import Hyperparameters
from jaxlab.trial import Trial

REFUSAL = (
    "UNIMPLEMENTED: HLO instruction %select-and-scatter.401.0 does not have a deterministic implementation, but "
    "run-to-run determinism is required by --xla_gpu_exclude_nondeterministic_ops."
)
WORDS = "select-and-scatter has no deterministic form on this device"


@pytest.fixture
def refusing(monkeypatch):
    """Lets the next so many compilations fail as XLA's for GPUs does, or with other words; notes their options."""
    real, state = jax.stages.Lowered.compile, {"left": 0, "words": REFUSAL, "options": []}

    def compile_(lowered, compiler_options=None, **more):
        state["options"].append(compiler_options)
        state["left"] -= 1
        if state["left"] >= 0:
            raise jax.errors.JaxRuntimeError(state["words"])
        return real(lowered, compiler_options, **more)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_)
    clear_programs()
    return state


def count_down() -> Trial:
    """A trial that needs no compiler worth the name."""

    def evaluate(h, state, shared, final):
        return state, {"at_the_end" if final else "value": state}

    return Trial(lambda h, shared: h.start, lambda h, state, shared, epoch: (state - 1, {}), evaluate)


def programs(**given):
    return compile_programs(count_down(), Hyperparameters(start=3.0), np.float32(1), make_pack(1), **given)


def test_a_cpu_is_deterministic_by_itself():
    assert all(programs(deterministic=each).nondeterministic == "" for each in (True, False, "auto"))
    assert deterministic_options("cpu") == deterministic_options("tpu") == {}
    assert deterministic_options("gpu")["xla_gpu_exclude_nondeterministic_ops"] is True


def test_options_reach_the_compiler_of_every_program(refusing):
    programs(options={"xla_cpu_enable_fast_math": False})
    assert len(refusing["options"]) == 4
    assert all(each["xla_cpu_enable_fast_math"] is False for each in refusing["options"])


def test_auto_does_without_and_says_so_in_one_line(refusing):
    refusing["left"] = 4
    with pytest.warns(UserWarning, match=f"^{WORDS}: a trial's numbers may change from run to run$"):
        found = programs()
    assert found.nondeterministic == WORDS
    assert len(refusing["options"]) == 8


def test_demanded_determinism_is_refused_with_the_operations_name(refusing):
    refusing["left"] = 4
    with pytest.raises(InputError, match=rf"^deterministic = True: {WORDS}; .*jaxlab\.pooling\.max_pool$"):
        programs(deterministic=True)


@pytest.mark.parametrize("deterministic", [True, "auto"])
def test_any_other_failure_is_not_taken_for_a_refusal(refusing, deterministic):
    refusing |= {"left": 4, "words": "INTERNAL: something broke"}
    with pytest.raises(jax.errors.JaxRuntimeError, match="something broke"):
        programs(deterministic=deterministic)


@pytest.mark.parametrize(
    ("words", "operation"),
    [
        (REFUSAL, "select-and-scatter"),
        ("HLO instruction scatter.7 does not have a deterministic implementation, but", "scatter"),
        ("RESOURCE_EXHAUSTED: out of memory", None),
    ],
)
def test_the_operation_is_read_from_the_refusal(words, operation):
    assert nondeterministic_operation(RuntimeError(words)) == operation


def test_another_word_is_bad_input():
    with pytest.raises(InputError, match=r"deterministic = 'yes': give true, false or \"auto\""):
        Study(trial=lambda configuration: count_down(), shared=np.float32(1), deterministic="yes")


def triple(deterministic="auto", epochs=1):
    """A study of two trials."""
    return Study(
        trial=lambda configuration: count_down(),
        shared=np.float32(1),
        space=grid(start=[3.0, 5.0]),
        hyperparameters={"start": 0.0},
        epochs=epochs,
        deterministic=deterministic,
    )


def test_results_say_whether_numbers_are_reproducible(refusing):
    assert triple().run().attrs["deterministic"] == "yes"
    clear_programs()
    refusing["left"] = 4
    with pytest.warns(UserWarning, match=WORDS):
        results = triple().run()
    assert results.attrs["deterministic"] == f"no: {WORDS}"
    np.testing.assert_array_equal(results["value"], [[3, 2], [5, 4]])


def test_a_run_resumes_with_another_guarantee_only_where_that_is_accepted(refusing, tmp_path):
    refusing["left"] = 4
    with pytest.warns(UserWarning, match=WORDS):
        triple().run(tmp_path / "run")
    words = rf"a group is deterministic and was not deterministic \({WORDS}\)"
    with pytest.raises(InputError, match=words):
        triple(epochs=2).run(tmp_path / "run")
    results = triple(epochs=2).run(tmp_path / "run", accept_changes=True)
    assert results.attrs["deterministic"] == "yes"
    assert "is deterministic and was not" in results.attrs["changes"]
    np.testing.assert_array_equal(results["value"], [[3, 2, 1], [5, 4, 3]])


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ('"auto"', "auto")])
def test_a_study_file_says_it(tmp_path, text, value):
    (tmp_path / "tiny.toml").write_text(f'deterministic = {text}\n[data]\nname = "digits"\n')
    assert load_study(tmp_path / "tiny.toml").deterministic == value
    with pytest.raises(InputError, match=r"deterministic = 1: give true, false or \"auto\""):
        load_study(tmp_path / "tiny.toml", ["deterministic=1"])


@pytest.mark.parametrize(("precision", "words"), [("float32", "HIGHEST"), ("tensorfloat32", "HIGH")])
def test_precision_is_that_of_every_product(precision, words):
    its = study(grid(), precision=precision)
    (group,) = its.groups
    trial = its.trial_of(group)
    example = Hyperparameters({name: values[0] for name, values in group.hyperparameters.items()})
    example = example.replace(seed=np.uint32(0))
    state = trial.init(example, its.arrays)

    def both(state, epoch):
        state, record = trial.train_segment(example, state, its.arrays, epoch)
        return trial.evaluate(example, state, its.arrays, False), record

    text = str(jax.make_jaxpr(both)(state, np.int32(1)))
    products = text.count("dot_general[")
    assert products > 6
    assert text.count(f"precision=(Precision.{words}, Precision.{words})") == products


def test_precision_is_recorded_and_part_of_the_program(tmp_path):
    results = study(grid(), epochs=1, precision="float32", model="mlp").run()
    assert results.attrs["precision"] == "float32"
    both = study(grid(precision=["default", "float32"]), epochs=1, model="mlp").run()
    assert both.attrs["precision"] == "default, float32"
    assert list(both.precision.values) == ["default", "float32"]
    with pytest.raises(
        InputError, match=r"configuration\.precision = 'bf16': .*default, tensorfloat32, float32"
    ):
        study(grid(), precision="bf16")
