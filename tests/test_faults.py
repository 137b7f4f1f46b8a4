"""Nothing is lost, whatever happens to those who compute: killed processes, two of them at once, disks that refuse."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from conftest import RUN, Project, wait_until

PAPERS = "structured-preconditioners geometric-memory transformers-as-svm"
N_KILLS = 20


def start(build: Path, *arguments: str, **variables: str) -> subprocess.Popen:
    """`make figures` at quick scale with a store of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "lib", "figures", "--scale", "quick", *arguments],
        env=os.environ | {"PAPERS_BUILD": str(build)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    """What it said on standard error; it must have succeeded."""
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
    return told


def made(build: Path) -> dict[str, bytes]:
    """Results, pictures, tables and verdicts: all that does not tell of time or place."""
    files = [path for ending in ("run", "png", "csv") for path in build.rglob(f"*.{ending}")]
    files += build.rglob("claims.json")
    return {path.relative_to(build).as_posix(): path.read_bytes() for path in files}


def results(build: Path) -> dict[str, tuple[int, int]]:
    """When and where each result was written: both change when it is written again."""
    finished = [path for path in build.glob("results/*.run") if not path.name.startswith(".")]
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in finished}


def has_news(process: subprocess.Popen, build: Path, known: dict[str, tuple[int, int]]) -> bool:
    """Whether a make has written a result that was not known, or has ended."""
    return process.poll() is not None or len(results(build)) > len(known)


def left_over(build: Path) -> list[Path]:
    return [*build.rglob(".tmp-*"), *build.rglob("*.lock")]


def test_twenty_kills_change_no_byte_and_no_finished_run_is_computed_again(tmp_path: Path):
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    chance = random.Random(0)
    kept: dict[str, tuple[int, int]] = {}
    at_work, n_kills = 0, 0
    while n_kills < N_KILLS:
        process = start(killed, "--paper", PAPERS, "--executor", "loky")
        try:
            if n_kills % 2:  # on a slow machine most moments come before the first result
                wait_until(partial(has_news, process, killed, kept), every=0.02)
            process.communicate(timeout=chance.uniform(0.3, 12.0) / (5 if n_kills % 2 else 1))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            n_kills += 1
            at_work += len(results(killed)) > len(kept)
        now = results(killed)
        assert {name: now.get(name) for name in kept} == kept
        kept = now
    finish(start(killed, "--paper", PAPERS))
    now = results(killed)
    assert {name: now[name] for name in kept} == kept
    assert at_work >= 3  # kills that came while results were being made
    assert left_over(killed) == []

    finish(start(undisturbed, "--paper", PAPERS))
    assert made(killed) == made(undisturbed)
    assert len(now) > 100


SLOW = RUN.replace("position += lr", "position += lr\n        __import__('time').sleep(0.2)")


def test_two_makes_at_once_take_turns_and_compute_each_run_once(project: Project):
    project.add(run=SLOW)
    build = project.root / "build"
    marks = {"PAPERS_ROOT": str(project.root), "EXECUTOR": "serial"}
    first = start(build, **marks)
    wait_until(lambda: list(build.rglob("*.lock")), every=0.02)
    second = start(build, **marks)
    assert "waiting" not in finish(first)
    written = results(build)
    assert "walk: another make is at work on it; waiting" in finish(second)
    assert results(build) == written and len(written) == 2
    assert left_over(build) == []


def test_the_lock_of_a_killed_make_is_free(project: Project):
    project.add(run=SLOW.replace("0.2", "5"))
    build = project.root / "build"
    marks = {"PAPERS_ROOT": str(project.root), "EXECUTOR": "serial"}
    victim = start(build, **marks)
    wait_until(lambda: list(build.rglob("*.lock")), every=0.02)
    victim.kill()
    victim.communicate()
    assert list(build.rglob("*.lock"))
    project.add()
    assert "waiting" not in finish(start(build, **marks))
    assert left_over(build) == []


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that not even root can write to, where there is one to be had."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_folder_is_told_in_one_sentence(project: Project, read_only: Path):
    project.add()
    done = project.run("figures", "--scale", "quick", PAPERS_BUILD=str(read_only))
    assert done.returncode == 1
    told = done.stderr.strip()
    assert told.startswith("walk failed: could not write") and "\n" not in told and "Traceback" not in told
    assert list(read_only.iterdir()) == []
