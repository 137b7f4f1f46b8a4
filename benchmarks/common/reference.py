"""The authors' code in a process of its own, and the table in which it stands beside ours."""

import csv
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

DRIVERS = Path(__file__).parent.parent / "drivers"


class Reference:
    """A driver that runs in the interpreter of the authors' packages and answers one line per line.

    Args:
        driver: File name in `benchmarks/drivers`.
        python: The interpreter.
        arguments: Of the driver; the first is the folder of the checkout.
        needed: A file that the checkout has.
        variables: Of the driver's environment.
    """

    def __init__(
        self,
        driver: str,
        python: str,
        arguments: Sequence[str],
        needed: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        if needed and not (Path(arguments[0]) / needed).is_file():
            sys.exit(f"There is no {needed} in {arguments[0]}; clone the authors' repository there, see --help.")
        self.process = subprocess.Popen(
            [python, str(DRIVERS / driver), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | (variables or {}),
            text=True,
        )

    def ask(self, request: object) -> str:
        """The driver's answer to a line."""
        print(request, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("The reference's process ended; its message is above.")
        return answer

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def ratios(row: Mapping[str, str | float], sides: Sequence[str]) -> dict[str, float]:
    """How many times as fast as the reference each other side is, if there is a reference."""
    if "reference" not in sides:
        return {}
    theirs = row["reference, CPU s"]
    return {f"ratio, {side}": theirs / row[f"{side}, CPU s"] for side in sides if side != "reference"}


def show(table: Sequence[Mapping[str, str | float]]) -> None:
    """Print a table, a row per line."""
    for row in table:
        print(
            "; ".join(f"{name}: {value:.3g}" if isinstance(value, float) else str(value) for name, value in row.items())
        )


def write(table: Sequence[Mapping[str, str | float]], path: Path) -> None:
    """Write a table as CSV, four digits of each float."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in table)
