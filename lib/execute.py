"""Runs one notebook in a process of its own: `python -m lib.execute`, with a JSON object on standard input
and what went wrong, if anything did, on standard output.

Apart from the rest of `make`, so that a notebook can be stopped, and whatever it does to its process stays there.
"""

import json
import os
import re
import sys
from pathlib import Path

import papermill
from nbclient.exceptions import DeadKernelError

from lib import errors
from lib.paths import end_with_parent, temporary_name

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# NumPy, PyTorch on the CPU, CUDA and Python itself, in this order, when a parameter is too large.
_NO_MEMORY = re.compile("Unable to allocate|can't allocate memory|out of memory|MemoryError")


def execute(notebook: str, output: str, parameters: dict) -> str | None:
    """Run a notebook from top to bottom.

    Args:
        notebook: path of the notebook; it is not changed.
        output: where the executed copy goes: there when it succeeds, beside it as `*.failed.ipynb` when it fails.
        parameters: values that replace those of the parameters cell.

    Returns:
        None, or what went wrong.
    """
    running = temporary_name(Path(output))
    running.parent.mkdir(parents=True, exist_ok=True)
    failed = Path(output).with_suffix(".failed.ipynb")
    try:
        trouble = _run(notebook, running, parameters)
        if trouble is None:
            os.replace(running, output)
            failed.unlink(missing_ok=True)
        elif running.exists():
            os.replace(running, failed)
            trouble += f"\nThe notebook up to there: {os.path.relpath(failed)}"
        return trouble
    finally:
        running.unlink(missing_ok=True)


def _run(notebook: str, running: Path, parameters: dict) -> str | None:
    for attempt in (1, 2):
        try:
            papermill.execute_notebook(
                notebook, str(running), parameters, kernel_name="python3", progress_bar=False, start_timeout=120
            )
            return None
        except papermill.PapermillExecutionError as error:
            if error.ename in errors.NAMES:
                return error.evalue
            if _NO_MEMORY.search(f"{error.ename}: {error.evalue}"):
                return f"memory is short; take smaller values of the parameters ({errors.shown(error.evalue, 300)})"
            return f"cell [{error.exec_count}] raised {error.ename}: {error.evalue}\n\n{_ANSI.sub('', str(error))}"
        except DeadKernelError:
            return "the kernel died, most often for lack of memory: close other programs, or take a smaller scale"
        except RuntimeError as error:  # the kernel did not start: ports can collide, so once more
            if attempt == 2:
                return f"the kernel did not start: {error}"
    return None


if __name__ == "__main__":
    task = json.load(sys.stdin)
    end_with_parent(task.pop("parent"))
    try:
        trouble = execute(**task)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        trouble = f"{type(error).__name__}: {error}"
    print(trouble or "", end="")  # standard error is full of what kernels have to say about themselves
    sys.exit(1 if trouble else 0)
