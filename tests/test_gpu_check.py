"""The GPU check on the CPU: its comparisons find broken gradients and pictures, one bad check spoils no other, README shows measured figures only."""

import copy
import dataclasses
import json
import math
import time

import pytest
import torch
from conftest import ROOT
from torch import nn

from paper_utils import readme
from paper_utils.gpu_check import __main__ as command
from paper_utils.gpu_check import checks, compare, measure, million, report, surfaces
from paper_utils.gpu_check.cases import CASES, EXACT, ROUNDED
from paper_utils.gpu_check.steps import Step, in_precision, moved, without_dropout
from paper_utils.mesh.topology import Topology
from paper_utils.nn import fused_softmax

CPU = torch.device("cpu")
BY_NAME = {case.name: case for case in CASES}


def two_layers(_: str = "tiny") -> Step:
    """A step small enough to be reasoned about."""
    chance = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=chance))
    x, y = torch.randn(8, 6, generator=chance), torch.randn(8, 1, generator=chance)
    return Step(
        {"network": network},
        lambda device: moved((x, y), device),
        lambda modules, given: nn.functional.mse_loss(modules["network"](given[0]), given[1]),
        samples=8,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        compiled=("network",),
    )


# ------------------------------------------------------------------------------------------------------- comparisons


def test_the_same_step_twice_is_the_same():
    first, second = (compare.gradients(BY_NAME["04 MeshTalk step 1"].build, CPU) for _ in range(2))
    same = compare.agreement(second, first)
    assert (same.loss, same.angle, same.norm) == (0, 0, 0)
    assert compare.judged(same, EXACT)["passed"]


def test_a_broken_gradient_of_the_heads_is_found(monkeypatch):
    case = BY_NAME["06 SphereFace-R, SFNet-20"]
    reference, right = compare.gradients(case.build, CPU), fused_softmax._gradients

    def broken(ctx, upstream):
        features, proxies, *rest = right(ctx, upstream)
        return [features, 1.1 * proxies, *rest]

    monkeypatch.setattr(fused_softmax, "_gradients", broken)
    verdict = compare.judged(compare.agreement(compare.gradients(case.build, CPU), reference), case.exact)
    assert not verdict["passed"]
    assert verdict["loss"]["passed"]
    assert verdict["parameter"]["name"] == "head.proxies"


def test_a_broken_gradient_of_the_renderer_is_found(monkeypatch):
    from paper_utils.mesh import interpolate

    case = BY_NAME["07 CEST"]
    reference, right = compare.gradients(case.build, CPU), interpolate._Interpolation.backward

    def broken(ctx, *gradients):
        places, values, *rest = right(ctx, *gradients)
        return -places, values, *rest

    monkeypatch.setattr(interpolate._Interpolation, "backward", staticmethod(broken))
    verdict = compare.judged(compare.agreement(compare.gradients(case.build, CPU), reference), case.exact)
    assert not verdict["passed"]


@pytest.mark.parametrize("tolerance", [EXACT, ROUNDED], ids=["exact", "mixed"])
def test_one_small_parameter_with_a_wrong_sign_is_found_and_named(tolerance):
    reference = compare.gradients(two_layers, CPU)
    wrong = {name: -value if name == "network.0.bias" else value for name, value in reference.values.items()}
    verdict = compare.judged(
        compare.agreement(compare.Gradients(reference.loss, wrong), reference), tolerance,
        compare.agreement(compare.gradients(two_layers, CPU, rounded=True), reference),
    )  # fmt: skip
    assert not verdict["parameter"]["passed"]
    assert verdict["parameter"]["name"] == "network.0.bias"


@pytest.mark.parametrize("fault", ["missing", "nan", "loss"])
def test_missing_and_infinite_values_are_no_agreement(fault):
    reference = compare.gradients(two_layers, CPU)
    values = dict(reference.values)
    if fault != "loss":
        values["network.2.bias"] = None if fault == "missing" else torch.full((1,), math.nan)
    found = compare.Gradients(math.nan if fault == "loss" else reference.loss, values)
    assert not compare.judged(compare.agreement(found, reference), ROUNDED)["passed"]


def test_limits_follow_the_control_but_never_allow_a_step_uphill():
    reference = compare.gradients(two_layers, CPU)
    shaky = compare.Agreement(0.5, 3.0, 0.5, dict.fromkeys(reference.values, 0.4))
    exact = compare.judged(compare.agreement(reference, reference), EXACT, shaky)
    assert exact["angle"]["limit"] == EXACT.angle
    mixed = compare.judged(compare.agreement(reference, reference), ROUNDED, shaky)
    assert mixed["angle"]["limit"] == pytest.approx(math.pi / 2)
    assert mixed["norm"]["limit"] == pytest.approx(1.5)
    assert mixed["parameter"]["limit"] == pytest.approx(1.2)


def test_differences_are_what_they_are_said_to_be():
    true = compare.Gradients(2.0, {"a": torch.tensor([3.0, 0.0]).double(), "b": torch.tensor([4.0]).double()})
    found = compare.Gradients(2.2, {"a": torch.tensor([0.0, 3.0]).double(), "b": torch.tensor([4.0]).double()})
    difference = compare.agreement(found, true)
    assert difference.loss == pytest.approx(0.1)
    assert difference.angle == pytest.approx(math.acos(16 / 25))
    assert difference.norm == pytest.approx(0)
    assert difference.parameters["a"] == pytest.approx(math.sqrt(18) / (3 + 0.05))
    assert difference.parameters["b"] == 0


def test_dropout_is_off_in_comparisons_and_modules_are_cast_as_in_training():
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    without_dropout({"network": network})
    mixed = in_precision({"network": network}, "bf16-mixed", CPU)["network"]
    out = mixed(torch.ones(2, 4))
    assert out.dtype == torch.float32
    assert torch.equal(out, out.bfloat16().float())
    assert bool((out != 0).all())
    with pytest.raises(ValueError, match="expected one of 32-true, bf16-mixed"):
        in_precision({}, "16-mixed", CPU)


# --------------------------------------------------------------------------------------------- renderer, sound, heads

SCENE = {"size": 32, "batch": 2, "points_per_cell": 2, "seconds": 0.01}


def test_the_renderer_agrees_with_itself_and_every_input_has_a_gradient():
    found = surfaces.check_renderer(CPU, **SCENE)
    assert found["passed"]
    assert found["found"] == dict.fromkeys(surfaces.LIMITS, 0.0)
    scene = surfaces.Scene(32, 2, 2, CPU)
    assert float(scene.step().abs().sum()) > 0
    assert all(float(leaf.grad.abs().sum()) > 0 for leaf in scene.leaves)


def test_a_triangle_that_is_seen_through_another_is_found(monkeypatch):
    right, calls = surfaces.rasterize.visible_faces, []

    def broken(*args, **options):
        ids = right(*args, **options)
        calls.append(1)
        if len(calls) == 2:  # the second drawing is that of the device
            ids[0, 16, 16] = (ids[0, 16, 16] + 700) % 2000
        return ids

    monkeypatch.setattr(surfaces.rasterize, "visible_faces", broken)
    found = surfaces.check_renderer(CPU, **SCENE)
    assert not found["passed"]
    assert found["found"]["different triangles that are no tie"] == 1


def test_only_edges_and_equal_depths_are_ties():
    # Two triangles side by side, and one far behind them.
    points = torch.tensor([[[0.0, 0, 5], [8, 0, 5], [8, 8, 5], [0, 8, 5], [0, 0, 9], [8, 0, 9], [8, 8, 9]]])
    topology = Topology.of(torch.tensor([[0, 2, 1], [0, 3, 2], [4, 6, 5]]), 7)
    first, second = torch.zeros(2, 1, 8, 8, dtype=torch.long)
    second[0, 2, 2] = 1  # its centre lies on the diagonal
    tie, pixels = surfaces.ties(points, topology, first, second)
    assert (tie.tolist(), pixels) == ([True], 64)
    second = torch.zeros_like(first)
    second[0, 1, 6] = 2  # 4 mm deeper, in the middle of both
    assert surfaces.ties(points, topology, first, second)[0].tolist() == [False]
    second[0, 1, 6] = -1
    assert surfaces.ties(points, topology, first, second)[0].tolist() == [False]
    points[:, 4:, 2] = 5
    second[0, 1, 6] = 2
    assert surfaces.ties(points, topology, first, second)[0].tolist() == [True]


def test_a_spectrum_that_is_wrong_is_found(monkeypatch):
    sound = {"batch": 1, "duration_s": 0.3, "seconds": 0.01}
    assert surfaces.check_log_mel(CPU, **sound)["passed"]
    right, calls = surfaces.audio.log_mel, []

    def broken(samples, config):
        calls.append(1)
        return right(samples, config) + (0.01 if len(calls) == 2 else 0.0)

    monkeypatch.setattr(surfaces.audio, "log_mel", broken)
    found = surfaces.check_log_mel(CPU, **sound)
    assert not found["passed"]
    assert max(found["found"], key=found["found"].get) == "papers 02 and 03"


@pytest.mark.parametrize(("name", "rate"), [("softmax", 1.0), ("SphereFace2-C", 1.0), ("ArcFace", 0.2)])
def test_heads_are_measured_beside_their_floor(name, rate):
    found = million.check_head(name, CPU, classes=60, dim=8, batch=4, rate=rate, seconds=0.005)
    assert found["ratio_to_floor"] == pytest.approx(found["ms"] / found["floor_ms"])
    assert found["logits_mib"] == 4 * 4 * 60 / 2**20
    assert found["peak_mib"] is None  # the CPU does not count


# ---------------------------------------------------------------------------------------------------------- measuring


def test_the_median_is_taken_after_a_warm_up():
    slow = iter([0.03, 0.03, 0.03])

    def work() -> None:
        time.sleep(next(slow, 0.001))

    found = measure.Meter(CPU, seconds=0.05).run(work)
    assert found["steps"] >= measure.LEAST_STEPS
    assert found["slowest_ms"] < 30 or found["ms"] < 30
    assert found["fastest_ms"] <= found["ms"] <= found["slowest_ms"]


def test_speed_is_samples_a_second_and_leaves_the_weights_where_they_are():
    step = two_layers()
    before = copy.deepcopy(step.modules["network"].state_dict())
    found = measure.speed(step, CPU, "32-true", seconds=0.01)
    assert found["samples_per_s"] == pytest.approx(8000 / found["ms"])
    assert all(torch.equal(before[name], value) for name, value in step.modules["network"].state_dict().items())


def test_a_compiled_step_runs_and_a_backend_that_fails_is_recorded():
    case = dataclasses.replace(BY_NAME["03 voice network"], build=two_layers)
    plan = checks.Plan("cpu", "tiny", seconds=0.01)
    good = checks.run_one(checks.Check("a", "compile", lambda: checks.speed(case, "32-true", plan, "eager")))
    assert good["status"] == checks.MEASURED
    bad = checks.run_one(checks.Check("b", "compile", lambda: checks.speed(case, "32-true", plan, "no such backend")))
    assert bad["status"] == checks.ERROR
    assert "no such backend" in bad["because"]


# -------------------------------------------------------------------------------------------------- one by one, and time


def run_of(monkeypatch, works, *, until=math.inf):
    """Run made-up checks; the record."""
    made = [checks.Check(name, "agree", work) for name, work in works.items()]
    monkeypatch.setattr(checks, "chosen", lambda _: made)
    plan, saved = checks.Plan("cpu", "tiny"), []
    record = checks.new_record(plan, 1.0)
    list(checks.run_checks(plan, record, lambda r: saved.append(copy.deepcopy(r)), until=until))
    return record, saved


def test_a_check_that_fails_is_recorded_by_name_and_the_others_go_on(monkeypatch):
    def runs_out():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def breaks():
        raise RuntimeError("Expected all tensors to be on the same device\nand more")

    works = {
        "a": runs_out, "b": breaks, "c": lambda: {"passed": True}, "d": lambda: {"passed": False}, "e": lambda: {"ms": 1.0},
    }  # fmt: skip
    record, saved = run_of(monkeypatch, works)
    assert [record["checks"][name]["status"] for name in "abcde"] == [
        checks.MEMORY, checks.ERROR, checks.PASSED, checks.MISSED, checks.MEASURED,
    ]  # fmt: skip
    assert record["checks"]["b"]["because"] == "RuntimeError: Expected all tensors to be on the same device"
    assert checks.faults(record) == ["a", "b", "d"]
    assert [r["checks"]["a"]["status"] for r in saved[:2]] == [checks.RUNNING, checks.MEMORY]
    assert saved[-1] == record


def test_what_was_not_run_in_time_says_so(monkeypatch):
    record, _ = run_of(monkeypatch, {"a": lambda: {"passed": True}}, until=time.monotonic())
    assert checks.unfinished(record) == ["a"]
    assert checks.faults(record) == []
    assert "a: not run: time is up" in report.faults_lines(record)


def test_names_choose_checks_and_unknown_ones_are_refused():
    names = [check.name for check in checks.chosen(checks.Plan("cpu", "tiny", ("07", "speed: 03*"), compiled=""))]
    assert names == [
        "agree: 07 CEST (32-true)", "agree: 07 CEST (bf16-mixed)",
        "speed: 03 voice network (32-true)", "speed: 03 voice to face (32-true)", "speed: 07 CEST (32-true)",
        "speed: 03 voice network (bf16-mixed)", "speed: 03 voice to face (bf16-mixed)", "speed: 07 CEST (bf16-mixed)",
    ]  # fmt: skip
    with pytest.raises(checks.GpuCheckError, match="--only 11: no check has it in its name"):
        checks.chosen(checks.Plan(only=("11",)))
    with pytest.raises(ValueError, match="expected size tiny or paper"):
        checks.Plan(size="huge")


# ------------------------------------------------------------------------------------------------------- command line


def test_without_a_gpu_it_says_so_writes_nothing_and_ends_well(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main([]) == 0
    assert "skipped, there is no GPU here" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.json"))


def test_a_run_on_the_cpu_leaves_a_record_that_is_not_for_readme(capfd, tmp_path):
    arguments = ["--device", "cpu", "--size", "tiny", "--only", "hear", "--seconds", "0.01", "--minutes", "2"]
    assert command.main(arguments) == 0
    assert "hear: log-mel" in capfd.readouterr().out
    record = checks.read_record(tmp_path / "results" / command.SELECTION)
    assert record["checks"]["hear: log-mel"]["status"] == checks.PASSED
    assert record["environment"]["device"] == "CPU"
    assert [path.name for path in (tmp_path / "results").iterdir()] == [command.SELECTION]


class Worker:
    """A second process that dies at its second check, then at none."""

    starts = 0

    def __init__(self, _):
        type(self).starts += 1
        self.folder = type(self).folder

    def wait(self, _):
        path = self.folder / command.UNFINISHED
        if type(self).starts == 1:
            record = checks.new_record(checks.Plan("cpu", "tiny"), 1.0)
            record["checks"]["a"]["status"] = checks.PASSED
            record["checks"]["b"]["status"] = checks.RUNNING
        else:
            record = checks.read_record(path)
            record["checks"]["c"]["status"] = checks.MISSED
        checks.write_record(path, record)
        return -9 if type(self).starts == 1 else 0


def test_a_process_that_dies_costs_one_check_and_a_missed_limit_is_exit_status_1(monkeypatch, tmp_path, capsys):
    made = [checks.Check(name, "hear", dict) for name in "abc"]
    monkeypatch.setattr(checks, "chosen", lambda _: made)
    monkeypatch.setattr(Worker, "folder", tmp_path / "results", raising=False)
    monkeypatch.setattr(Worker, "starts", 0)
    monkeypatch.setattr(command.subprocess, "Popen", Worker)
    assert command.main(["--device", "cpu", "--size", "tiny"]) == 1
    found = checks.read_record(tmp_path / "results" / command.SELECTION)["checks"]
    assert [found[name]["status"] for name in "abc"] == [checks.PASSED, checks.ERROR, checks.MISSED]
    assert found["b"]["because"] == "its process ended with status -9"
    assert "2 comparisons missed their limit or failed: b; c" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot be read"), ("{", "no valid JSON"), ("[]", "found 'list'"), ('{"format": "x"}', "found 'x'")],
)
def test_a_record_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / "gpu.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(checks.GpuCheckError, match=message):
        checks.read_record(path)


# ------------------------------------------------------------------------------------------------------------- README


def gpu_record(**changes):
    """A record as a GPU would leave it, with numbers nobody measured."""
    speed = {"kind": "speed", "status": checks.MEASURED, "ms": 10.0, "samples_per_s": 12345.6, "peak_mib": 2048.4, "unit": "pictures"}  # fmt: skip
    part = {"found": 0.001, "limit": 0.01, "passed": True}
    agrees = {"kind": "agree", "status": checks.PASSED, "loss": part, "angle": part, "norm": part, "parameter": part | {"name": "a.b"}}  # fmt: skip
    missed = agrees | {"status": checks.MISSED, "angle": {"found": 0.5, "limit": 0.2, "passed": False}}
    record = {
        "format": checks.FORMAT,
        "environment": {
            "device": "Imaginary GPU", "memory_gib": 80.0, "driver": "1.2", "cuda": "13.0", "cudnn": 9, "torch": "2.13.0",
        },
        "plan": {"device": "cuda", "size": "paper", "only": [], "compiled": "inductor"},
        "checks": {
            "agree: 07 CEST (32-true)": agrees,
            "agree: 07 CEST (bf16-mixed)": missed,
            "speed: 07 CEST (32-true)": speed,
            "speed: 07 CEST (bf16-mixed)": {"kind": "speed", "status": checks.MEMORY, "because": "CUDA out of memory"},
            "compile: 07 CEST (32-true)": speed | {"kind": "compile", "ms": 5.0},
            "head: ArcFace": {
                "kind": "head", "status": checks.MEASURED, "ms": 30.0, "floor_ms": 20.0, "ratio_to_floor": 1.5, "classes": 1_000_000,
                "peak_mib": 6000.0, "floor_mib": 4000.0,
            },
        },
    }  # fmt: skip
    return record | changes


def test_the_table_holds_numbers_and_the_reasons_of_those_that_are_missing():
    text = report.markdown(gpu_record())
    assert "Imaginary GPU (80 GiB), driver 1.2, CUDA 13.0" in text
    row = next(line for line in text.splitlines() if line.startswith("| 07 CEST"))
    assert row == (
        "| 07 CEST | ✔ 0.001 rad | ✘ missed 0.5 rad | 12,300 | out of memory | pictures | x 2.00 | - | 2,050 | out of memory |"
    )
    assert "| ArcFace | 1,000,000 | 30 | 20 | 1.5 | 6,000 | 4,000 |" in text
    assert "* agree: 07 CEST (bf16-mixed): missed, angle 0.5 (at most 0.2)" in text
    assert "* speed: 07 CEST (bf16-mixed): out of memory, CUDA out of memory" in text


@pytest.mark.parametrize(
    "plan",
    [{"device": "cpu"}, {"size": "tiny"}, {"only": ["07"]}],
    ids=["of a CPU", "tiny", "a selection"],
)
def test_readme_refuses_what_is_no_whole_run_of_a_gpu(plan):
    record = gpu_record()
    record["plan"] |= plan
    with pytest.raises(checks.GpuCheckError, match="README shows whole runs of a GPU at paper size"):
        report.readme_part(record)


def test_readme_refuses_a_record_in_which_nothing_was_measured(tmp_path):
    record = gpu_record()
    for result in record["checks"].values():
        result.pop("ms", None)
    page = tmp_path / "README.md"
    page.write_text("<!-- gpu -->\nold\n<!-- end of gpu -->\n")
    with pytest.raises(checks.GpuCheckError, match="README shows measured figures only"):
        report.write_readme(record, page)
    assert "old" in page.read_text()


def test_readme_gets_the_table_between_its_marks_and_nothing_else_changes(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"before\n<!-- gpu -->\n{report.PLACEHOLDER}<!-- end of gpu -->\nafter\n")
    assert report.write_readme(gpu_record(), page)
    text = page.read_text()
    assert text.startswith("before\n<!-- gpu -->\nMeasured on Imaginary GPU")
    assert text.endswith("<!-- end of gpu -->\nafter\n")
    assert not report.write_readme(gpu_record(), page)
    page.write_text("no marks")
    with pytest.raises(checks.GpuCheckError, match=r"README.md: expected the lines"):
        report.write_readme(gpu_record(), page)


def test_the_projects_readme_shows_no_figure_without_its_record():
    part = readme.between((ROOT / "README.md").read_text(encoding="utf-8"), report.PART)
    record = ROOT / "results" / command.RECORD
    if part != report.PLACEHOLDER:
        assert record.is_file(), "README.md shows GPU figures, but results/gpu.json is not there"
        assert part == report.readme_part(json.loads(record.read_text(encoding="utf-8")))
