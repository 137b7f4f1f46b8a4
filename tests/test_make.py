"""The commands behind `make`, tried on papers that take no time. Each test that runs a notebook takes a few seconds."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import CARD, FIGURE, PARAMETERS, RUN, Project

from lib.paths import temporary_name

OFTEN = [
    (["figures", "--paper", "nobody"], "PAPER='nobody' is unknown; use one or several of walk"),
    (["figures", "--scale", "big"], "scale 'big' is unknown; use quick, standard, paper"),
    (["figures", "--device", "tpu"], "DEVICE='tpu' is unknown; use auto, cpu, cuda"),
    (["figures", "--executor", "ray"], "EXECUTOR='ray' is unknown; use serial, loky, dask"),
    (["figures", "--executor", "tcp://127.0.0.1:1"], "no dask scheduler answers at EXECUTOR=tcp://127.0.0.1:1"),
    (["figures", "--params", "stepz=1"], "walk has no parameter 'stepz'; it has seeds, steps, lr"),
    (["figures", "--params", "steps=soon"], "parameter steps must be int, got 'soon'"),
    (["figures", "--params", "steps"], "PARAMS must be 'name=value' pairs"),
]


@pytest.mark.parametrize(
    ("arguments", "told"), OFTEN, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_wrong_word_is_refused_in_one_sentence_and_writes_nothing(arguments: list[str], told: str, project: Project):
    project.add()
    project.refuses(*arguments, told=told)


def test_cuda_without_a_gpu_is_refused(project: Project):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    project.add()
    done = project.run("figures", "--device", "cuda")
    assert done.returncode == 2
    assert "PyTorch finds no CUDA GPU here; use DEVICE=cpu" in done.stderr


def test_figures_are_made_published_and_then_left_alone(project: Project):
    project.add()
    done = project.run("figures")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("walk: 1 of 1 judged claims reproduced, 0:")
    published = project.root / "figures/walk"
    assert {path.name for path in published.iterdir()} == {
        "positions.png",
        "positions.csv",
        "claims.json",
        "record.json",
    }
    assert (published / "positions.csv").read_text() == "position\n2.5\n3.5\n4.5\n"
    record = json.loads((published / "record.json").read_text())
    assert record["parameters"]["steps"] == 5
    assert record["seeds"] == [0, 1, 2]
    assert len(record["keys"]["runs"]) == 3
    claim = json.loads((published / "claims.json").read_text())["claims"][0]
    assert claim["measured"] == pytest.approx(3.5)
    assert "1 of 1 judged claims reproduced" in (project.root / "README.md").read_text()

    made = project.files()
    again = project.run("figures")
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]
    assert project.files() == made
    assert project.run("check").returncode == 0

    # Another plot, the same runs: the notebook runs again and trains nothing.
    results = {name: content for name, content in made.items() if name.startswith("build/results/")}
    project.add(figure=DRAWN_OTHERWISE)
    assert "was made from other content" in project.run("check").stdout
    assert project.run("figures").returncode == 0
    after = project.files()
    assert {name: content for name, content in after.items() if name.startswith("build/results/")} == results
    assert "figures/walk/points.csv" in after
    assert "figures/walk/positions.csv" not in after

    (published / "points.csv").write_text("position\n9\n")
    altered = project.run("check")
    assert altered.returncode == 1
    assert "figures/walk/points.csv is not the file that was made" in altered.stdout


DRAWN_OTHERWISE = """figure, axes = plt.subplots()
positions = np.concatenate([result["position"] for result in results])
axes.plot(positions, "o")
paper.save_figure(figure, "points", pd.DataFrame({"position": positions}))
paper.measure("walks", positions)"""


def test_quick_scale_and_trials_leave_the_figures_of_record_alone(project: Project):
    project.add()
    assert project.run("figures", "--scale", "quick").returncode == 0
    assert project.run("figures", "--params", "steps=4").returncode == 0
    assert not (project.root / "figures").exists()
    assert (project.root / "build/quick/walk/positions.csv").read_text() == "position\n1.5\n2.5\n"
    assert (project.root / "build/standard/walk/positions.csv").read_text() == "position\n2\n3\n4\n"


def test_a_notebook_that_raises_is_shown_and_the_others_are_made(project: Project):
    project.add("broken", run="results = []\nraise ValueError('no such thing')")
    project.add("walk")
    done = project.run("figures")
    assert done.returncode == 1
    assert "broken failed: cell [4] raised ValueError: no such thing" in done.stderr
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stdout.splitlines()[-2:][0] == "broken: failed (see above)"
    assert done.stdout.splitlines()[-1].startswith("walk: 1 of 1")
    assert not (project.root / "figures/broken").exists()
    assert (project.root / "build/standard/broken/broken.failed.ipynb").exists()


def test_a_dataset_that_is_absent_is_told_in_one_sentence(project: Project):
    project.add(run="from lib import data\nraise data.DatasetUnavailable('MNIST is not there; put it here.')")
    done = project.run("figures")
    assert done.returncode == 1
    assert "walk failed: MNIST is not there; put it here.\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_kernel_that_dies_is_told_in_one_sentence(project: Project):
    project.add(run="import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    done = project.run("figures")
    assert done.returncode == 1
    assert "walk failed: the kernel died, most often for lack of memory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_claim_that_is_not_measured_fails_the_paper(project: Project):
    project.add(figure="")
    done = project.run("figures")
    assert done.returncode == 1
    assert "measure these claims before asking for the ledger: walks" in done.stderr


def test_a_notebook_that_is_not_python_is_shown_and_the_others_are_made(project: Project):
    project.add("broken", run="results = = []")
    project.add("walk", figure=FIGURE + "\nhere = !echo shell lines and magics are fine\n%matplotlib inline")
    done = project.run("figures")
    assert done.returncode == 1
    assert "broken failed: cell [4] raised SyntaxError" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("walk: 1 of 1")


def test_what_is_damaged_is_made_again_with_a_warning(project: Project):
    project.add()
    project.run("figures", "--scale", "quick")
    made = project.root / "build/quick/walk"
    (result, *_) = sorted((project.root / "build/results").glob("*.run"))
    result.write_bytes(result.read_bytes()[:-3])
    for damage in ("{}", "[]", '{"keys": null}', "{"):
        (made / "record.json").write_text(damage)
        done = project.run("figures", "--scale", "quick")
        assert done.returncode == 0, done.stderr
        assert json.loads((made / "record.json").read_text())["paper"] == "walk"
        if damage == "{}":
            assert f"warning: the result {result.name} was damaged and has been computed again" in done.stderr


def test_killed_while_the_notebook_was_saved_it_is_saved_again(project: Project):
    project.add()
    project.run("figures", "--scale", "quick")
    notebook = project.root / "build/quick/walk/walk.ipynb"
    left_over = notebook.with_name(temporary_name(notebook).name.replace(str(os.getpid()), "999999999"))
    notebook.rename(left_over)  # the record is there already
    project.run("figures", "--scale", "quick")
    assert notebook.exists() and not left_over.exists()
    left_over.touch()
    done = project.run("figures", "--scale", "quick")
    assert "walk: 0:0" not in done.stdout  # it did not run
    assert not left_over.exists()


def test_a_notebook_whose_make_is_gone_already_does_not_run(project: Project):
    notebook, output = project.add(run=RUN + "\n__import__('time').sleep(5)"), project.root / "out/walk.ipynb"
    task = {"parent": 999999999, "notebook": str(notebook), "output": str(output), "parameters": {}}
    done = subprocess.run(
        [sys.executable, "-m", "lib.execute"],
        input=json.dumps(task),
        env=os.environ | {"PAPERS_ROOT": str(project.root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert not output.exists()


def test_a_damaged_ledger_of_record_is_told_in_one_sentence(project: Project):
    project.add()
    project.run("figures")
    (project.root / "figures/walk/claims.json").write_text("[]")
    for command, status in (("gallery", 2), ("check", 1)):
        done = project.run(command)
        assert done.returncode in (status, 2)
        assert "Traceback" not in done.stderr
        assert "claims.json" in done.stderr + done.stdout


def test_a_stand_in_is_told_and_never_counts_as_made(project: Project):
    project.add(run=RUN + "\npaper.provisional = 'a stand-in'")
    for _ in range(2):
        done = project.run("figures", "--scale", "quick")
        assert done.stdout.splitlines()[-1].endswith("(provisional: a stand-in)")
        assert "walk: 0:0" in done.stdout  # it ran


SLOW = RUN.replace("position += lr", "position += lr\n        __import__('time').sleep(0.02)")


@pytest.mark.parametrize(
    ("executor", "how"),
    [("serial", signal.SIGKILL), ("loky", signal.SIGKILL), ("loky", signal.SIGTERM), ("loky", signal.SIGINT)],
)
def test_a_make_that_is_ended_leaves_no_process_behind(executor: str, how: signal.Signals, project: Project):
    project.add(run=SLOW.replace("0.02", "1.0"), card=CARD.replace("{{steps: 5, seeds: [0, 1, 2]}}", "{{steps: 100}}"))
    command = [sys.executable, "-m", "lib", "figures", "--executor", executor]
    ended = subprocess.Popen(command, env=os.environ | {"PAPERS_ROOT": str(project.root)}, stdout=subprocess.DEVNULL)
    family: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while (
        not any("loky" in part for process in family for part in commandline(process)) and time.monotonic() < deadline
    ):
        time.sleep(0.5)
        family = psutil.Process(ended.pid).children(recursive=True)
        if executor == "serial" and len(family) >= 2:
            break
    assert len(family) >= 2
    ended.send_signal(how)
    ended.wait(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive


def commandline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_an_interrupted_make_goes_on_and_ends_with_the_same_files(project: Project):
    slow = {"parameters": PARAMETERS.replace("[0, 1]", "[0, 1, 2, 3]"), "run": SLOW}
    card = CARD.replace("{{steps: 5, seeds: [0, 1, 2]}}", "{{steps: 50}}")
    project.add(**slow, card=card)
    command = [sys.executable, "-m", "lib", "figures"]
    variables = os.environ | {"PAPERS_ROOT": str(project.root)}
    command += ["--executor", "serial"]
    killed = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL)
    results = project.root / "build/results"
    deadline = time.monotonic() + 120
    while not list(results.glob("*.run")) and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    time.sleep(2)  # the notebook's process notices within half a second that nobody waits for it
    finished = {path.name: path.stat().st_mtime_ns for path in results.glob("*.run")}
    assert 1 <= len(finished) < 4

    assert project.run("figures").returncode == 0
    assert {path.name: path.stat().st_mtime_ns for path in results.glob("*.run") if path.name in finished} == finished
    assert not list(project.root.rglob(".tmp-*"))
    assert not list(project.root.rglob("*.running.ipynb"))
    interrupted = {name: content for name, content in project.files().items() if name.startswith("figures/")}

    shutil.rmtree(project.root / "build")
    shutil.rmtree(project.root / "figures")
    assert project.run("figures").returncode == 0
    undisturbed = {name: content for name, content in project.files().items() if name.startswith("figures/")}
    for name in interrupted.keys() - {"figures/walk/record.json"}:
        assert interrupted[name] == undisturbed[name]


def test_verify_agrees_with_what_is_committed_and_reports_what_differs(project: Project):
    project.add()
    project.run("figures")
    build = str(project.root / "build/verify")
    assert "walk: agrees with what is committed" in project.run("verify", PAPERS_BUILD=build).stdout

    ledger = project.root / "figures/walk/claims.json"
    ledger.write_text(ledger.read_text().replace('"measured": 3.5', '"measured": 9.5').replace("1.015862", "9.0"))
    changed = json.loads(ledger.read_text())
    changed["claims"][0]["interval"] = [9.0, 10.0]
    ledger.write_text(json.dumps(changed))
    done = project.run("verify", PAPERS_BUILD=build)
    assert done.returncode == 1
    assert "walks: 3.5 lies outside the committed interval [9, 10]" in done.stdout


def test_a_full_disk_is_told_in_one_sentence_and_leaves_nothing_half_written(project: Project, tmp_path_factory):
    tiny = tmp_path_factory.mktemp("tiny")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", tiny], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        project.add()
        done = project.run("figures", PAPERS_BUILD=str(tiny))
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert not list(tiny.rglob(".tmp-*"))
        assert not (project.root / "figures").exists()
    finally:
        subprocess.run(["umount", tiny], check=True)
