"""One word leads from one process to a cluster, and no worker that dies takes anything along."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import distributed  # noqa: F401 (brings dask's settings for it)
import joblib
import numpy as np
import psutil
import pytest
from conftest import Project, wait_until

from lib import clusters, keys, minimise, runs
from lib.errors import Refused, WorkerKilled
from lib.paths import ROOT

SHIPPED = sorted((ROOT / "cluster").glob("*.yml"))


def draw(seed, folder, seconds=0.0):
    """A run that tells who computes it, and takes its time."""
    with open(Path(folder) / f"begun-{seed}", "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return {"values": np.random.default_rng(seed).normal(size=5)}


def die(folder):
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def minimised():
    return {"steps": minimise.minimise.__name__}


def threads():
    import torch

    return {"threads": torch.get_num_threads()}


class TwoWorkers:
    """A scheduler and two workers in processes of their own, joined over TCP."""

    def __init__(self, folder: Path) -> None:
        file = folder / "scheduler.json"
        self.folder = folder
        self.scheduler = self._start("scheduler", "--port", "0", "--host", "127.0.0.1", "--scheduler-file", str(file))
        wait_until(file.exists)
        self.workers = [
            self._start(
                "worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--death-timeout", "60"
            )
            for _ in range(2)
        ]
        self.address = json.loads(file.read_text())["address"]

    def _start(self, kind: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments, "--no-dashboard"]
        variables = {"PYTHONPATH": str(Path(__file__).parent), "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
        return subprocess.Popen(
            command, cwd=self.folder, env=os.environ | variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def close(self) -> None:
        runs.close_clients()
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoWorkers]:
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    cluster = TwoWorkers(tmp_path)
    monkeypatch.setenv("EXECUTOR", cluster.address)
    yield cluster
    cluster.close()


@contextlib.contextmanager
def killed_when(condition: Callable[[], object], *victims: subprocess.Popen) -> Iterator[None]:
    """While the block runs, kill the processes as soon as something is so."""

    def kill() -> None:
        wait_until(condition)
        for victim in victims:
            victim.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        killer.join()


def results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.run")}


def undisturbed(settings: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What one process leaves in a store of its own."""
    with monkeypatch.context() as patch:
        patch.setattr(runs, "RESULTS", tmp_path / "alone")
        patch.setenv("EXECUTOR", "serial")
        runs.sweep(draw, settings)
    return results(tmp_path / "alone")


def test_two_workers_over_tcp_give_the_bytes_of_one_process(two_workers, tmp_path, monkeypatch):
    settings = [{"seed": seed, "folder": str(tmp_path), "seconds": 0.3} for seed in range(6)]
    runs.sweep(draw, settings)
    workers = {(tmp_path / f"begun-{seed}").read_text() for seed in range(6)}
    assert len(workers) == 2  # the unit that travels is one run
    assert results(tmp_path / "results") == undisturbed(settings, tmp_path, monkeypatch)
    assert int(runs.run(threads)["threads"]) == 1


def test_a_worker_killed_in_mid_run_loses_nothing(two_workers, tmp_path, monkeypatch):
    settings = [{"seed": seed, "folder": str(tmp_path), "seconds": 1.0} for seed in range(4)]
    victim = two_workers.workers[0]

    def at_work() -> bool:
        return any(str(victim.pid) in path.read_text().split() for path in tmp_path.glob("begun-*"))

    with killed_when(at_work, victim):
        runs.sweep(draw, settings)
    assert victim.poll() is not None
    begun = [line for seed in range(4) for line in (tmp_path / f"begun-{seed}").read_text().split()]
    assert len(begun) == 5  # the run that was cut off, once more
    assert results(tmp_path / "results") == undisturbed(settings, tmp_path, monkeypatch)
    assert list((tmp_path / "results").glob(".tmp-*")) == []


def test_a_scheduler_that_dies_is_told_and_finished_runs_are_kept(two_workers, tmp_path, monkeypatch):
    settings = [{"seed": seed, "folder": str(tmp_path), "seconds": 0.5} for seed in range(6)]

    with (
        killed_when(lambda: len(results(tmp_path / "results")) >= 2, two_workers.scheduler),
        pytest.raises(WorkerKilled, match="is gone; finished runs are kept"),
    ):
        runs.sweep(draw, settings)
    kept = results(tmp_path / "results")
    assert 2 <= len(kept) < 6
    assert kept.items() <= undisturbed(settings, tmp_path, monkeypatch).items()


def test_a_cluster_that_has_lost_its_last_worker_is_given_up(two_workers, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "DESERTED_SECONDS", 1.0)
    with (
        killed_when(lambda: list(tmp_path.glob("begun-*")), *two_workers.workers),
        pytest.raises(WorkerKilled, match="all dask workers are gone"),
    ):
        runs.run(draw, seed=1, folder=str(tmp_path), seconds=60.0)


def test_a_run_that_kills_every_worker_is_given_up_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("EXECUTOR", "dask")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        pytest.raises(WorkerKilled, match="more memory"),
    ):
        runs.run(die, folder=str(tmp_path))
    runs.close_clients()


def test_a_worker_without_the_folder_sends_its_result_back(tmp_path, monkeypatch):
    elsewhere = tmp_path / "not/here/draw-1.run"
    path, result, cost = runs._compute_there(
        keys.run_contents(draw, [{}])[0][1], draw, {"seed": 1, "folder": str(tmp_path)}, str(elsewhere), str(tmp_path)
    )
    assert path == str(elsewhere) and result["values"].shape == (5,) and cost["seconds"] >= 0
    assert not elsewhere.parent.exists()
    # Who asked for it writes it.
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(runs, "_execute", lambda jobs, *_: ((job[2], result, cost) for job in jobs))
    runs.run(draw, seed=1, folder=str(tmp_path))
    (stored,) = (tmp_path / "results").glob("*.run")
    np.testing.assert_array_equal(runs.load(stored)["values"], result["values"])


def test_a_worker_with_other_code_or_packages_is_refused(tmp_path):
    ((_, expected),) = keys.run_contents(minimised, [{}])
    assert keys.differences(expected) == []
    expected["modules"]["lib/minimise.py"] = "another"
    expected["versions"]["numpy"] = "1.0"
    with pytest.raises(Refused, match=r"lib/minimise.py, numpy .* instead of 1.0\); give both the same checkout"):
        runs._compute_there(expected, draw, {}, str(tmp_path / "x.run"), str(tmp_path))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_queue_file_renders_a_job_of_single_threaded_workers(path: Path):
    script = clusters.job_script(path)
    directive = {"slurm": "#SBATCH -p", "pbs": "#PBS -q", "sge": "#$ -q", "lsf": "#BSUB -q", "htcondor": "Queue"}
    assert directive[path.stem] in script
    assert "dask_worker tcp://scheduler:8786" in script
    assert "--nthreads 1 " in script and "--nworkers 4 " in script


def test_there_is_a_queue_file_for_every_system():
    assert {path.stem for path in SHIPPED} == set(clusters.SYSTEMS)


GOOD = "system: slurm\njobs: 2\ncores: 2\nmemory: 1GB\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must hold system, jobs, cores and memory"),
        ("- a\n", "must hold system, jobs, cores and memory"),
        (GOOD.replace("system: slurm\n", ""), "must hold system, jobs, cores and memory"),
        (GOOD.replace("slurm", "loadleveler"), "system 'loadleveler' is unknown; use slurm, pbs, sge, lsf, htcondor"),
        (GOOD.replace("slurm", "[slurm]"), r"system \['slurm'\] is unknown"),
        (GOOD.replace("jobs: 2", "jobs: 0"), "jobs must be a whole number of at least 1, got 0"),
        (GOOD.replace("jobs: 2", "jobs: yes"), "jobs must be a whole number of at least 1, got True"),
        (GOOD.replace("cores: 2", "cores: two"), "cores must be a whole number of at least 1, got 'two'"),
        (GOOD.replace("1GB", "plenty"), "plenty"),
        (GOOD + "colour: blue\n", "colour"),
        ("system: [\n", "cannot be read as a queue file"),
    ],
)
def test_a_queue_file_that_is_wrong_is_refused(text: str, told: str, tmp_path: Path):
    path = tmp_path / "queue.yml"
    path.write_text(text)
    with pytest.raises(Refused, match=told):
        clusters.check_executor(str(path))


def test_a_queue_file_that_is_absent_is_refused():
    with pytest.raises(Refused, match=r"cannot be read as a queue file: .*No such file"):
        clusters.check_executor("nowhere.yml")


def test_a_queue_whose_command_is_absent_is_refused(tmp_path: Path):
    path = tmp_path / "queue.yml"
    path.write_text(GOOD)
    with pytest.raises(Refused, match="sbatch is not to be found here; start from a machine that can submit jobs"):
        clusters.start(str(path))


def test_a_queue_that_refuses_a_job_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid account' >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = tmp_path / "queue.yml"
    path.write_text(GOOD)
    with pytest.raises(Refused, match=r"a job could not be submitted: .*invalid account"):
        clusters.start(str(path))


def test_runs_go_through_the_jobs_of_a_queue_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With dask-jobqueue's queue for trials, which starts the rendered command on this machine."""
    import dask_jobqueue
    from dask_jobqueue.local import LocalCluster

    monkeypatch.setattr(dask_jobqueue, "TrialCluster", LocalCluster, raising=False)
    monkeypatch.setitem(clusters.SYSTEMS, "trial", "TrialCluster")
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    path = tmp_path / "queue.yml"
    path.write_text("system: trial\njobs: 1\ncores: 2\nmemory: 2GB\nqueue: any\n")
    monkeypatch.setenv("EXECUTOR", str(path))
    settings = [{"seed": seed, "folder": str(tmp_path), "seconds": 0.2} for seed in range(4)]
    runs.sweep(draw, settings)
    runs.close_clients()
    assert results(tmp_path / "results") == undisturbed(settings, tmp_path, monkeypatch)
    workers = {(tmp_path / f"begun-{seed}").read_text() for seed in range(4)}
    assert len(workers) == 2 and str(os.getpid()) not in workers


def test_make_starts_one_cluster_for_all_papers_and_stops_it(project: Project):
    project.add("first")
    project.add("second")
    done = project.run("figures", "--executor", "dask", "--scale", "quick")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("judged claims reproduced") == 2
    assert len(list((project.root / "build/results").glob("*.run"))) == 2  # both papers ask for the same two runs
    assert [p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())] == []
    assert joblib.cpu_count() >= 1
