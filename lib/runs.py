"""Runs: pure functions whose results are computed once, on as many processes as there are, and never lost.

A result lies in `build/results/<function>-<key>.run`, where the key (see `lib.keys`) covers all that could change it. A
result that is present is not computed again; the process that computes a result also writes it, atomically, so
whatever is interrupted goes on where it stopped.

Every run uses one thread, whoever executes it: the same bits come from one process, from many, and from a cluster.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import resource
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from joblib.externals.loky.process_executor import TerminatedWorkerError
from safetensors.numpy import load as _decode
from safetensors.numpy import save as _encode
from tqdm.auto import tqdm

from lib import keys, progress
from lib.errors import PlainError, WorkerKilled
from lib.paths import BUILD, end_with_parent, environment, sweep_temporary_files, write_atomically

Result = dict[str, np.ndarray]
RESULTS = BUILD / "results"
EXECUTORS = ("serial", "loky", "dask")

_MAGIC = b"lib.runs 1\n"  # first line of a result file; a later format gets another number


class CorruptResult(Exception):
    """A result file that is truncated, altered, or not one of ours."""


class RunFailed(RuntimeError):
    """A run raised; the message names the run and its arguments."""


def run(function: Callable[..., dict], **arguments: Any) -> Result:
    """Result of one run, from the store when it is there. See `sweep`."""
    return sweep(function, [arguments])[0]


def sweep(function: Callable[..., dict], settings: list[dict[str, Any]], title: str | None = None) -> list[Result]:
    """Results of a function for several settings, in their order; what is missing is computed, in parallel.

    Args:
        function: top-level function, pure in its keyword arguments, that returns a flat dictionary of arrays and numbers.
        settings: keyword arguments of each run (what they may hold: `lib.keys.run_key`).
        title: what the progress bar is called; the function's name by default.

    Returns:
        One dictionary of NumPy arrays per setting; numbers come back as zero-dimensional arrays.

    Raises:
        RunFailed: a run raised. Runs that were finished are kept.
        PlainError: a dataset is absent, the disk is full, or a worker was killed; finished runs are kept here, too.
        ValueError: the environment variable `EXECUTOR` names no executor.
    """
    execute = _executor(os.environ.get("EXECUTOR") or "loky")
    sweep_temporary_files(RESULTS)
    paths = [RESULTS / f"{function.__name__}-{key[:24]}.run" for key in keys.run_keys(function, settings)]
    found = {path: _load_or_warn(path) for path in dict.fromkeys(paths)}
    missing = {path: setting for path, setting in zip(paths, settings, strict=True) if found[path] is None}
    for path in found.keys() - missing.keys():
        _count(path, _cost(path), computed=False)
    if missing:
        title = title or function.__name__
        with _watched(title, len(missing)) as (folder, advance):
            for path, result, cost in execute(
                [(function, setting, str(path), folder) for path, setting in missing.items()]
            ):
                if not Path(path).exists():  # the worker wrote to a disk of its own
                    _save(Path(path), result, cost)
                found[Path(path)] = result
                _count(Path(path), cost, computed=True)
                advance()
    return [found[path] for path in paths]


# -- one result on disk ------------------------------------------------------------------------------------------------


def _save(path: Path, result: Result, cost: dict[str, float]) -> None:
    payload = _encode(result)
    # The cost lies beside the result, not in it: the result's bytes depend on the run alone.
    write_atomically(path.with_suffix(".json"), json.dumps(cost))
    write_atomically(path, _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)


def load(path: Path) -> Result:
    """Read one result file.

    Raises:
        CorruptResult: the file is not a whole result file of this format.
    """
    magic, _, rest = path.read_bytes().partition(b"\n")
    checksum, _, payload = rest.partition(b"\n")
    if magic + b"\n" != _MAGIC:
        raise CorruptResult(f"{path} is not a result file of this version")
    if hashlib.sha256(payload).hexdigest().encode() != checksum:
        raise CorruptResult(f"{path} is truncated or altered")
    return _decode(payload)


def _load_or_warn(path: Path) -> Result | None:
    if not path.exists():
        return None
    try:
        return load(path)
    except (CorruptResult, OSError) as error:
        warnings.warn(f"{error}; it is computed again", stacklevel=3)
        _spent["damaged"].append(path.name)
        return None


def _cost(path: Path) -> dict[str, float]:
    try:
        return json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return {"seconds": 0.0, "peak_memory_bytes": 0}


# -- one run ----------------------------------------------------------------------------------------------------------


def peak_memory_bytes() -> int:
    """Largest resident size that this process has had so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


Outcome = tuple[str, Result, dict[str, float]]  # path, result, cost


def _compute(function: Callable[..., dict], setting: dict[str, Any], path: str, progress_folder: str) -> Outcome:
    import torch  # here: who only asks whether results are present need not wait for it

    start = time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with environment(PAPERS_PROGRESS=progress_folder):
            raw = function(**setting)
        result = {name: np.asarray(value, order="C") for name, value in raw.items()}
    except PlainError:
        raise
    except Exception as error:
        told = ", ".join(f"{name}={value!r}" for name, value in setting.items())
        raise RunFailed(f"{function.__name__}({told}) raised {type(error).__name__}: {error}") from error
    finally:
        torch.set_num_threads(threads)
    for name, value in result.items():
        if value.dtype.kind not in "biuf":
            raise RunFailed(
                f"{function.__name__} returned {name!r} of type {value.dtype}; return arrays and numbers only"
            )
    cost = {"seconds": round(time.perf_counter() - start, 3), "peak_memory_bytes": peak_memory_bytes()}
    _save(Path(path), result, cost)
    return path, result, cost


# -- many runs --------------------------------------------------------------------------------------------------------

Jobs = list[tuple[Callable[..., dict], dict[str, Any], str, str]]  # function, setting, path, folder for progress


def _executor(name: str) -> Callable[[Jobs], Iterator[Outcome]]:
    check_executor(name)
    return {"serial": _serial, "loky": _loky}.get(name, lambda jobs: _dask(jobs, name))


def check_executor(name: str) -> None:
    """Refuse an executor that does not exist.

    Raises:
        ValueError: the name is neither an executor nor the address of a scheduler (`host:port`, `tcp://host:port`).
    """
    if name not in EXECUTORS and not re.fullmatch(r"([a-z]+://)?[A-Za-z0-9_.\-\[\]:]+:[0-9]{1,5}", name):
        raise ValueError(
            f"EXECUTOR={name!r} is unknown; use {', '.join(EXECUTORS)}, or the address of a running dask scheduler (tcp://host:port)"
        )


def _serial(jobs: Jobs) -> Iterator[Outcome]:
    yield from (_compute(*job) for job in jobs)


def _loky(jobs: Jobs) -> Iterator[Outcome]:
    workers = min(len(jobs), joblib.cpu_count())
    if workers == 1:
        yield from _serial(jobs)
        return
    # Loky replaces a worker whose memory has grown, and says so; nothing is lost by it.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
    try:
        # Without the initializer, workers of a killed notebook would go on computing beside those of the next one.
        ending = {"initializer": end_with_parent, "initargs": (os.getpid(),)}
        with joblib.parallel_config("loky", n_jobs=workers, inner_max_num_threads=1, **ending):
            yield from joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs")(
                joblib.delayed(_compute)(*job) for job in jobs
            )
    except TerminatedWorkerError as error:
        raise WorkerKilled(
            "a worker process was killed, most often for lack of memory; finished runs are kept: "
            "start again to go on, with EXECUTOR=serial if memory is short"
        ) from error


def _dask(jobs: Jobs, name: str) -> Iterator[Outcome]:
    from distributed import as_completed

    client = _dask_client(name)
    futures = [client.submit(_compute, *job, pure=False) for job in jobs]
    yield from (result for _, result in as_completed(futures, with_results=True))


@functools.cache  # one cluster for all sweeps of a notebook: starting one takes seconds; it ends with the process
def _dask_client(name: str) -> Any:
    from distributed import Client

    local = {"n_workers": joblib.cpu_count(), "threads_per_worker": 1, "dashboard_address": None}
    return Client(**local) if name == "dask" else Client(name, timeout="20s")


@contextlib.contextmanager
def _watched(title: str, total: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """Draw one bar over all runs of a sweep, the present ones counted by their fraction, until the block ends.

    Yields:
        The folder into which runs report their fraction, and the function to call when one more is finished.
    """
    finished, over = 0, threading.Event()
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=total, desc=title, unit="run", leave=False) as bar,
    ):
        bar.bar_format = "{l_bar}{bar}| {n:.1f}/{total} runs [{elapsed}<{remaining}]"

        def look() -> None:
            done = min(finished + progress.fractions_done(Path(folder)), total)
            bar.update(max(done - bar.n, 0))
            progress.report(title, done, total)

        def watch() -> None:
            while not over.wait(0.5):
                look()

        def advance() -> None:
            nonlocal finished
            finished += 1

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield folder, advance
        finally:
            over.set()
            watcher.join()
            look()


# -- what this process spent --------------------------------------------------------------------------------------------

_spent: dict[str, Any] = {
    "cached_seconds": 0.0,
    "peak_memory_bytes": 0,
    "keys": [],
    "damaged": [],
}


def _count(path: Path, cost: dict[str, float], *, computed: bool) -> None:
    _spent["keys"].append(path.stem)
    _spent["cached_seconds"] += 0.0 if computed else cost["seconds"]
    _spent["peak_memory_bytes"] = max(_spent["peak_memory_bytes"], cost["peak_memory_bytes"])


def spent() -> dict[str, Any]:
    """What the runs of this process cost: seconds that the store saved, largest memory; their keys, and damaged results."""
    return _spent | {"keys": sorted(set(_spent["keys"]))}
