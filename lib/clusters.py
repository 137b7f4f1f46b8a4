"""Where runs are executed: the executors by name, the clusters behind them, and the files that describe a batch queue.

| `EXECUTOR=`            | where                                                                                     |
|------------------------|-------------------------------------------------------------------------------------------|
| `serial`               | this process                                                                              |
| `loky`                 | as many processes of this machine as it has cores                                         |
| `dask`                 | a dask cluster of this machine, started for the occasion and stopped afterwards           |
| `tcp://host:port`      | a dask scheduler that is running; it stays                                                |
| `file.yml`             | jobs of a batch queue, described by the file; they end when `make figures` ends           |

A queue file names its `system` (a key of `SYSTEMS`), how many `jobs` to ask for, and `cores` and `memory` per job; what else
it holds are options of that system's class in dask-jobqueue (`queue`, `account`, `walltime`, `job_extra_directives`,
`job_script_prologue`, …). Each core of a job gets one worker process of one thread.
"""

import contextlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib import plain_yaml
from lib.errors import Refused, shown
from lib.paths import ROOT

EXECUTORS = ("serial", "loky", "dask")
SYSTEMS = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "htcondor": "HTCondorCluster",
}
ANSWER_SECONDS = 20  # how long a scheduler may take to answer


def check_name(name: str) -> None:
    """Refuse a word that names no executor, without a look at what it names.

    Raises:
        Refused: the sentence says what there is.
    """
    if not (name in EXECUTORS or _is_queue_file(name) or _is_address(name)):
        raise Refused(
            f"EXECUTOR={shown(name)} is unknown; use {', '.join(EXECUTORS)}, the address of a running dask scheduler "
            "(tcp://host:port), or a file that describes a batch queue (cluster/slurm.yml)"
        )


def check_executor(name: str) -> None:
    """Refuse an executor that does not exist, a scheduler that does not answer, and a queue file that is wrong.

    Raises:
        Refused: the sentence says what would be right.
    """
    check_name(name)
    if _is_queue_file(name):
        read_queue(_queue_file(name))
    elif _is_address(name):
        host, _, port = name.rpartition("://")[2].rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except (OSError, OverflowError, UnicodeError) as error:
            raise Refused(
                f"no dask scheduler answers at EXECUTOR={name} ({error}); start one with 'dask scheduler'"
            ) from error


def _is_queue_file(name: str) -> bool:
    return name.endswith((".yml", ".yaml"))


def _queue_file(name: str) -> Path:
    """Notebooks run in their own folder, and the file is named as seen from the project's root."""
    return Path(name) if os.path.exists(name) else ROOT / name  # pathlib raises for names that no file could have


def _is_address(name: str) -> bool:
    return re.fullmatch(r"([a-z]+://)?[A-Za-z0-9_.\-\[\]:]+:[0-9]{1,5}", name) is not None


def read_queue(path: Path) -> tuple[type, int, dict[str, Any]]:
    """A queue file's class of dask-jobqueue, number of jobs and options of the class.

    Raises:
        Refused: the file cannot be read, or a field of it is missing, unknown or of the wrong kind.
    """
    try:
        content = plain_yaml.read(path, "a queue file")
    except Refused as error:
        raise Refused(f"EXECUTOR: {error}") from error
    if not isinstance(content, dict) or not {"system", "jobs", "cores", "memory"} <= content.keys():
        raise Refused(f"EXECUTOR={path}: a queue file must hold system, jobs, cores and memory; see cluster/slurm.yml")
    if content["system"] not in tuple(SYSTEMS):
        raise Refused(f"EXECUTOR={path}: system {content['system']!r} is unknown; use {', '.join(SYSTEMS)}")
    for name in ("jobs", "cores"):
        if isinstance(content[name], bool) or not isinstance(content[name], int) or content[name] < 1:
            raise Refused(f"EXECUTOR={path}: {name} must be a whole number of at least 1, got {content[name]!r}")
    import dask_jobqueue

    cluster = getattr(dask_jobqueue, SYSTEMS[content["system"]])
    options = {"processes": content["cores"]} | {k: v for k, v in content.items() if k not in ("system", "jobs")}
    _trial_job(cluster, options, path)
    return cluster, content["jobs"], options


def job_script(path: Path) -> str:
    """The script that a queue file submits, for reading; nothing is submitted.

    Raises:
        Refused: as `read_queue`.
    """
    cluster, _, options = read_queue(path)
    return _trial_job(cluster, options, path).job_script()


def _trial_job(cluster: type, options: dict[str, Any], path: Path) -> Any:
    """A job as it would be submitted, had the scheduler the address tcp://scheduler:8786."""
    try:
        return cluster.job_cls(scheduler="tcp://scheduler:8786", name="worker", **options)
    except Exception as error:  # whatever dask-jobqueue has against the options
        raise Refused(f"EXECUTOR={path}: {' '.join(str(error).split())}") from error


def start(name: str) -> Any:
    """Start what an executor needs: a cluster of this machine, or jobs of a queue.

    Args:
        name: "dask" or a queue file.

    Returns:
        The cluster, with `scheduler_address` and `close()`.

    Raises:
        Refused: the queue file is wrong, or the queue's command for submitting is not there.
    """
    if name == "dask":
        import joblib
        from distributed import LocalCluster

        return LocalCluster(n_workers=joblib.cpu_count(), threads_per_worker=1, dashboard_address=":0")
    cluster_class, jobs, options = read_queue(_queue_file(name))
    command = (cluster_class.job_cls.submit_command or "").split()
    if command and not shutil.which(command[0]):
        raise Refused(
            f"EXECUTOR={name}: {command[0]} is not to be found here; start from a machine that can submit jobs"
        )
    cluster = cluster_class(scheduler_options={"dashboard_address": ":0"}, **options)
    try:
        # What `cluster.scale(jobs=jobs)` does, but waiting for the answer, so that a queue that refuses is told at once.
        for _ in range(jobs):
            cluster.worker_spec.update(cluster.new_worker_spec())
        cluster.sync(cluster._correct_state)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(Exception):
            cluster.close()
        raise Refused(f"EXECUTOR={name}: a job could not be submitted: {' '.join(str(error).split())}") from error
    return cluster


class Cluster:
    """The cluster of one `make figures`: started when the first notebook needs it, stopped when the block is left."""

    def __init__(self, executor: str) -> None:
        self.executor = executor
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def address(self) -> str:
        """The executor for the notebooks: the same word, or the address of the scheduler that was started."""
        if self.executor == "dask" or _is_queue_file(self.executor):
            cluster = start(self.executor)
            self._stack.callback(cluster.close)
            self.executor = cluster.scheduler_address
        return self.executor


@contextlib.contextmanager
def client(name: str) -> Iterator[Any]:
    """A dask client for an executor, which is closed afterwards, together with what was started for it."""
    from distributed import Client

    with contextlib.ExitStack() as stack:
        target = name
        if not _is_address(name):
            target = start(name)
            stack.callback(target.close)
        yield stack.enter_context(Client(target, timeout=ANSWER_SECONDS))
