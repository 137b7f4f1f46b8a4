"""Runs: pure functions whose results are computed once, on as many processes as there are, and never lost.

A result lies in `build/results/<function>-<key>.run`, where the key (see `lib.keys`) covers all that could change it. A
result that is present is not computed again; the process that computes a result also writes it, atomically, so
whatever is interrupted goes on where it stopped.

Every run uses one thread, whoever executes it: the same bits come from one process, from many, and from a cluster.
"""

import atexit
import contextlib
import functools
import hashlib
import json
import os
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

from lib import clusters, keys, progress
from lib.errors import CannotWrite, PlainError, Refused, WorkerKilled
from lib.paths import BUILD, end_with_parent, environment, sweep_temporary_files, write_atomically

Result = dict[str, np.ndarray]
RESULTS = BUILD / "results"

DESERTED_SECONDS = 60.0  # how long a cluster that has lost its last worker is waited for

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
        settings: keyword arguments of each run (what they may hold: `lib.keys.run_contents`).
        title: what the progress bar is called; the function's name by default.

    Returns:
        One dictionary of NumPy arrays per setting, sorted by name; numbers come back as zero-dimensional arrays.

    Raises:
        RunFailed: a run raised. Runs that were finished are kept.
        PlainError: a dataset is absent, the disk is full, or a worker was killed; finished runs are kept here, too.
        Refused: the environment variable `EXECUTOR` names no executor.
    """
    executor = os.environ.get("EXECUTOR") or "loky"
    clusters.check_name(executor)
    sweep_temporary_files(RESULTS)
    contents = keys.run_contents(function, settings)
    paths = [RESULTS / f"{function.__name__}-{key[:24]}.run" for key, _ in contents]
    surroundings = {path: around for path, (_, around) in zip(paths, contents, strict=True)}
    found = {path: _load_or_warn(path) for path in dict.fromkeys(paths)}
    missing = {path: setting for path, setting in zip(paths, settings, strict=True) if found[path] is None}
    for path in found.keys() - missing.keys():
        _count(path, _cost(path), computed=False)
    if missing:
        title = title or function.__name__
        with _watched(title, len(missing)) as (folder, advance):
            jobs = [(function, setting, str(path), folder) for path, setting in missing.items()]
            for path, result, cost in _execute(jobs, executor, [surroundings[path] for path in missing]):
                if not Path(path).exists():  # the worker has another disk, or could not write to this one
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
    return dict(sorted(_decode(payload).items()))  # safetensors has an order of its own


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
    torch.set_num_threads(1)
    try:
        with environment(PAPERS_PROGRESS=progress_folder):
            raw = function(**setting)
        result = {name: np.asarray(raw[name], order="C") for name in sorted(raw)}  # the order that a loaded one has
    except PlainError:
        raise
    except Exception as error:
        told = ", ".join(f"{name}={value!r}" for name, value in setting.items())
        raise RunFailed(f"{function.__name__}({told}) raised {type(error).__name__}: {error}") from error
    for name, value in result.items():
        if value.dtype.kind not in "biuf":
            raise RunFailed(
                f"{function.__name__} returned {name!r} of type {value.dtype}; return arrays and numbers only"
            )
    cost = {"seconds": round(time.perf_counter() - start, 3), "peak_memory_bytes": peak_memory_bytes()}
    return path, result, cost


def _compute_and_save(*job: Any) -> Outcome:
    path, result, cost = _compute(*job)
    _save(Path(path), result, cost)
    return path, result, cost


# -- many runs --------------------------------------------------------------------------------------------------------

Jobs = list[tuple[Callable[..., dict], dict[str, Any], str, str]]  # function, setting, path, folder for progress


def _execute(jobs: Jobs, executor: str, surroundings: list[keys.Surroundings]) -> Iterator[Outcome]:
    """Compute the jobs, each as soon as there is a process for it, in any order; other machines compare surroundings."""
    if executor == "serial" or (executor == "loky" and min(len(jobs), joblib.cpu_count()) == 1):
        return _serial(jobs)
    return _loky(jobs) if executor == "loky" else _dask(jobs, executor, surroundings)


def _serial(jobs: Jobs) -> Iterator[Outcome]:
    import torch

    threads = torch.get_num_threads()
    try:
        yield from (_compute_and_save(*job) for job in jobs)
    finally:
        torch.set_num_threads(threads)  # this process goes on with other things


def _loky(jobs: Jobs) -> Iterator[Outcome]:
    workers = min(len(jobs), joblib.cpu_count())
    # Loky replaces a worker whose memory has grown, and says so; nothing is lost by it.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
    try:
        # Without the initializer, workers of a killed notebook would go on computing beside those of the next one.
        ending = {"initializer": end_with_parent, "initargs": (os.getpid(),)}
        with joblib.parallel_config("loky", n_jobs=workers, inner_max_num_threads=1, **ending):
            yield from joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs")(
                joblib.delayed(_compute_and_save)(*job) for job in jobs
            )
    except TerminatedWorkerError as error:
        raise WorkerKilled(
            "a worker process was killed, most often for lack of memory; finished runs are kept: "
            "start again to go on, with EXECUTOR=serial if memory is short"
        ) from error


def _dask(jobs: Jobs, executor: str, surroundings: list[keys.Surroundings]) -> Iterator[Outcome]:
    from distributed import as_completed
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    clusters.check_executor(executor)
    RESULTS.mkdir(parents=True, exist_ok=True)  # workers that see the folder write to it
    client = _client(executor)
    try:
        # Not pure: dask must not take a result from its own memory by the names of the arguments.
        submit = functools.partial(client.submit, _compute_there, pure=False)
        futures = [submit(around, *job) for around, job in zip(surroundings, jobs, strict=True)]
        arrivals, left, attended = as_completed(futures), len(futures), None
        while left:
            for future in arrivals.next_batch(block=False):
                left -= 1
                yield future.result()
            time.sleep(0.02)
            if client.scheduler_info(n_workers=1)["workers"]:
                attended = time.monotonic()
            elif attended is not None and time.monotonic() - attended > DESERTED_SECONDS:
                raise WorkerKilled(
                    "all dask workers are gone, perhaps because their jobs reached the walltime; "
                    "finished runs are kept: start again to go on"
                )
    except KilledWorker as error:
        raise WorkerKilled(
            "a run was given up: each of the dask workers that tried it was killed, most often for lack of memory; "
            "finished runs are kept: give the workers more memory and start again to go on"
        ) from error
    except (FutureCancelledError, OSError, TimeoutError) as error:
        if isinstance(error, PlainError):
            raise
        close_clients()
        raise WorkerKilled(
            f"the dask scheduler of EXECUTOR={executor} is gone; finished runs are kept: start it again to go on"
        ) from error


def _compute_there(expected: keys.Surroundings, *job: Any) -> Outcome:
    """Compute a job on a worker that may be another machine, and write its result where the folder is shared."""
    if different := keys.differences(expected):
        raise Refused(
            f"the dask worker has other code or packages than this process ({', '.join(different)}); "
            "give both the same checkout and environment"
        )
    path, result, cost = _compute(*job)
    if Path(path).parent.is_dir():
        with contextlib.suppress(CannotWrite):  # the result is sent back in any case
            _save(Path(path), result, cost)
    return path, result, cost


# One for all sweeps of a notebook: starting one takes seconds.
_clients: dict[str, tuple[Any, contextlib.ExitStack]] = {}


def _client(executor: str) -> Any:
    if executor not in _clients:
        stack = contextlib.ExitStack()
        _clients[executor] = stack.enter_context(clusters.client(executor)), stack
    return _clients[executor][0]


@atexit.register
def close_clients() -> None:
    """Leave the dask clusters that sweeps of this process have used, and stop those that were started for it."""
    while _clients:
        _clients.popitem()[1][1].close()


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
