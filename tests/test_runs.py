"""Results are computed once, by whoever; nothing that is damaged is believed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from lib import runs
from lib.errors import CannotWrite
from lib.paths import temporary_name


def count(seed, folder, size=3):
    """A run that leaves a mark each time it is really computed."""
    with open(Path(folder) / f"computed-{seed}", "a") as file:
        file.write("x")
    return {"values": np.random.default_rng(seed).normal(size=size), "seed": seed}


def crash(seed):
    raise ZeroDivisionError("no seed")


def objects():
    return {"names": np.array(["a"])}


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("EXECUTOR", "serial")
    return tmp_path / "results"


def computed(folder: Path, seed: int) -> int:
    mark = folder / f"computed-{seed}"
    return len(mark.read_text()) if mark.exists() else 0


def test_a_result_is_computed_once_and_equals_the_stored_one(tmp_path: Path):
    first = runs.run(count, seed=1, folder=str(tmp_path))
    second = runs.run(count, seed=1, folder=str(tmp_path))
    np.testing.assert_array_equal(first["values"], second["values"])
    assert second["seed"] == 1
    assert list(first) == list(second) == ["seed", "values"]  # a table of all parts has its rows in one order
    assert computed(tmp_path, 1) == 1


def test_results_come_in_the_order_of_the_settings_and_equal_settings_are_computed_once(tmp_path: Path):
    results = runs.sweep(count, [{"seed": seed, "folder": str(tmp_path)} for seed in (3, 1, 3)])
    assert [int(result["seed"]) for result in results] == [3, 1, 3]
    assert computed(tmp_path, 3) == 1


@pytest.mark.parametrize("executor", ["loky", "dask"])
def test_every_executor_gives_the_same_bytes(
    executor: str, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = [{"seed": seed, "folder": str(tmp_path)} for seed in range(3)]
    runs.sweep(count, settings)
    serial = {path.name: path.read_bytes() for path in store.glob("*.run")}
    for path in store.iterdir():
        path.unlink()
    monkeypatch.setenv("EXECUTOR", executor)
    runs.sweep(count, settings)
    assert {path.name: path.read_bytes() for path in store.glob("*.run")} == serial
    assert len(serial) == 3


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def damage_flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def damage_foreign(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 something else")


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_version(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"lib.runs 1", b"lib.runs 2", 1))


@pytest.mark.parametrize("damage", [damage_truncate, damage_flip, damage_foreign, damage_empty, damage_version])
def test_a_damaged_result_is_computed_again_with_a_warning(damage, tmp_path: Path, store: Path):
    whole = runs.run(count, seed=1, folder=str(tmp_path))
    (path,) = store.glob("*.run")
    damage(path)
    with pytest.warns(UserWarning, match="computed again"):
        again = runs.run(count, seed=1, folder=str(tmp_path))
    np.testing.assert_array_equal(whole["values"], again["values"])
    assert computed(tmp_path, 1) == 2
    runs.load(path)


def test_a_lost_cost_note_costs_nothing(tmp_path: Path, store: Path):
    runs.run(count, seed=1, folder=str(tmp_path))
    (note,) = store.glob("*.json")
    assert json.loads(note.read_text())["seconds"] >= 0
    note.unlink()
    runs.run(count, seed=1, folder=str(tmp_path))
    assert computed(tmp_path, 1) == 1


def test_a_run_that_raises_is_named_with_its_arguments_and_leaves_nothing(store: Path):
    with pytest.raises(runs.RunFailed, match=r"crash\(seed=7\) raised ZeroDivisionError: no seed"):
        runs.run(crash, seed=7)
    assert list(store.glob("*")) == []


def test_finished_runs_are_kept_when_a_later_one_raises(tmp_path: Path, store: Path):
    with pytest.raises(runs.RunFailed):
        runs.sweep(count, [{"seed": 1, "folder": str(tmp_path)}, {"seed": 2, "folder": "/nowhere"}])
    assert len(list(store.glob("*.run"))) == 1


def test_results_that_are_not_numbers_are_refused():
    with pytest.raises(runs.RunFailed, match="arrays and numbers only"):
        runs.run(objects)


def test_temporary_files_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path, store: Path):
    store.mkdir()
    mine = temporary_name(store / "x.run").name
    dead, alive = (store / mine.replace(str(os.getpid()), str(pid)) for pid in (999999999, os.getppid()))
    of_another_machine, abandoned = store / ".tmp-999999999-other-x.run", store / ".tmp-999999999-other-y.run"
    for file in (dead, alive, of_another_machine, abandoned):
        file.touch()
    os.utime(abandoned, (0, 0))
    runs.run(count, seed=1, folder=str(tmp_path))
    assert not dead.exists() and not abandoned.exists()
    assert alive.exists() and of_another_machine.exists()


def test_an_unknown_executor_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EXECUTOR", "ray")
    with pytest.raises(ValueError, match="use serial, loky, dask"):
        runs.run(count, seed=1, folder=str(tmp_path))
    assert computed(tmp_path, 1) == 0


def test_a_store_that_cannot_be_written_says_what_to_do(tmp_path: Path, store: Path):
    store.write_text("a file where the folder should be")
    with pytest.raises(CannotWrite, match=r"could not write .*\(File exists\)"):
        runs.run(count, seed=1, folder=str(tmp_path))
