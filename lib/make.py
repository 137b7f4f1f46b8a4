"""What `make` does with the papers: run what is not up to date, publish, verify, and check what is committed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import claims, clusters, gallery
from lib.cards import Card, all_cards, check_scale, relative
from lib.devices import resolve
from lib.errors import PlainError, Refused, shown
from lib.paths import locked, sweep_temporary_files, write_atomically
from lib.records import read_json, read_ledger, read_record


@dataclass(frozen=True)
class Order:
    """What the user asked for, checked.

    Attributes:
        papers: cards of the papers to make.
        scale: quick, standard or paper.
        device: cpu or cuda.
        executor: serial, loky, dask, a scheduler's address or a queue file.
        overrides: parameter values as text, by name.
    """

    papers: list[Card]
    scale: str
    device: str
    executor: str
    overrides: dict[str, str]

    @property
    def publishes(self) -> bool:
        """Whether the results are the figures of record."""
        return self.scale == "standard" and not self.overrides


def order(papers: str, scale: str, device: str, executor: str, params: str) -> Order:
    """Check what was asked for, before anything runs.

    Args:
        papers: keys separated by spaces or commas; empty for all.
        scale: quick, standard or paper.
        device: auto, cpu or cuda.
        executor: serial, loky, dask, a scheduler's address or a queue file.
        params: `name=value` pairs separated by spaces.

    Raises:
        Refused: any of these is unknown or of the wrong type, or the device or scheduler is not there.
    """
    check_scale(scale)
    cards = all_cards()
    wanted = list(dict.fromkeys(papers.replace(",", " ").split())) or list(cards)
    for key in wanted:
        if key not in cards:
            raise Refused(f"PAPER={shown(key)} is unknown; use one or several of {', '.join(cards)}")
    pairs = [_split(pair) for pair in params.split()]
    overrides = dict(pairs)
    if len(overrides) < len(pairs):
        name, times = Counter(name for name, _ in pairs).most_common(1)[0]
        raise Refused(f"PARAMS gives {shown(name)} {times} times; give one value")
    for key in wanted:
        cards[key].parameters(scale, overrides=overrides)  # raises for what does not fit
    try:
        device = resolve(device)
    except ValueError as error:
        raise Refused(str(error)) from error
    clusters.check_executor(executor)
    return Order([cards[key] for key in wanted], scale, device, executor, overrides)


def _split(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not (name and equals and value):
        raise Refused(
            f"PARAMS must be 'name=value' pairs without spaces inside, separated by spaces; got {shown(pair)}"
        )
    return name, value


def make(wanted: Order) -> bool:
    """Run every paper that is not up to date, one after another, and end with one line per paper.

    Returns:
        Whether every paper could be made.
    """
    lines, failed = [], False
    with clusters.Cluster(wanted.executor) as cluster:
        for card in wanted.papers:
            line, made = _make_one(card, wanted, cluster)
            lines.append(line)
            failed |= not made
    if wanted.publishes:
        gallery.refresh()
    print("\n".join(lines), flush=True)
    return not failed


def _make_one(card: Card, wanted: Order, cluster: clusters.Cluster) -> tuple[str, bool]:
    """Make one paper if it is not up to date; returns the line that tells how it went, and whether it is made."""
    parameters = card.parameters(wanted.scale, wanted.device, wanted.overrides)
    key, folder = card.content_key(parameters), card.output(wanted.scale)

    def waiting() -> None:
        print(f"{card.key}: another make is at work on it; waiting", file=sys.stderr, flush=True)

    try:
        with locked(folder.with_name(f"{folder.name}.lock"), waiting):
            sweep_temporary_files(folder)
            trouble = None if is_made(card, wanted.scale, key) else _run(card, wanted, parameters, key, cluster)
            sweep_temporary_files(folder)  # once more: at the start, those of a make just killed may still be at work
            if not trouble and wanted.publishes:
                _publish(card, folder)
            record, rows = read_record(folder), read_ledger(folder)
    except (PlainError, OSError) as error:
        trouble, record, rows = str(error), None, None
    if not trouble and (record is None or rows is None):
        trouble = f"{relative(folder)} holds no whole record and ledger; does the notebook end with paper.finish()?"
    if trouble:
        print(f"\n{card.key} failed: {trouble}\n", file=sys.stderr, flush=True)
        return f"{card.key}: failed (see above)", False
    for name in record.get("damaged", []):
        print(f"warning: the result {name} was damaged and has been computed again", file=sys.stderr, flush=True)
    provisional = f" (provisional: {record['provisional']})" if record.get("provisional") else ""
    return f"{card.key}: {claims.summary(rows)}, {_clock(record['wall_seconds'])}{provisional}", True


def is_made(card: Card, scale: str, key: str) -> bool:
    """Whether this clone has made this paper from exactly this content, and the files are whole."""
    folder = card.output(scale)
    return (folder / card.notebook.name).is_file() and not _troubles(folder, key)


def _troubles(folder: Path, key: str) -> list[str]:
    record = read_record(folder)
    if record is None:
        return [f"{relative(folder / 'record.json')} is missing or damaged"]
    if record.get("provisional"):
        return [f"{relative(folder)} is provisional: {record['provisional']}"]
    if record["keys"].get("paper") != key:
        return [f"{relative(folder)} was made from other content (code, card, parameters or versions have changed)"]
    return [
        f"{relative(folder / name)} is not the file that was made"
        for name, checksum in record["files"].items()
        if not (folder / name).is_file() or hashlib.sha256((folder / name).read_bytes()).hexdigest() != checksum
    ]


def _publish(card: Card, folder: Path) -> None:
    """Copy the figures of record, the record last: a copy that was interrupted does not look whole."""
    sweep_temporary_files(card.committed)
    names = [*read_record(folder)["files"], "record.json"]
    for name in names:
        content = (folder / name).read_bytes()
        if not (card.committed / name).is_file() or (card.committed / name).read_bytes() != content:
            write_atomically(card.committed / name, content)
    for other in card.committed.iterdir():
        if other.is_file() and other.name not in names:
            other.unlink()


def _run(card: Card, wanted: Order, parameters: dict[str, Any], key: str, cluster: clusters.Cluster) -> str | None:
    """Execute one notebook while showing how far it is; returns what went wrong."""
    folder = card.output(wanted.scale)
    earlier = read_record(folder) or (read_record(card.committed) if wanted.publishes else None)
    expected = earlier["wall_seconds"] if earlier else None
    output = folder / card.notebook.name
    for old in (folder / "record.json", output):  # whatever happens now, they no longer speak for the folder
        old.unlink(missing_ok=True)
    task = {
        "parent": os.getpid(),
        "notebook": str(card.notebook),
        "output": str(output),
        "parameters": parameters,
    }
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile("w+") as answer:
        status = Path(scratch) / "status.json"
        variables = {
            "EXECUTOR": cluster.address(),
            "PAPERS_KEY": key,
            "PAPERS_STATUS": str(status),
            "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one that the user has installed elsewhere
            "TQDM_DISABLE": "1",  # the one bar is drawn here
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "lib.execute"],
            stdin=subprocess.PIPE,
            stdout=answer,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | variables,
        )
        try:
            process.stdin.write(json.dumps(task))
            process.stdin.close()
            line = _StatusLine(card.key, expected)
            while process.poll() is None:
                line.show(read_json(status))
                time.sleep(0.2)
            line.clear()
        except BaseException:
            _stop(process)
            raise
        if process.returncode == 0:
            return None
        answer.seek(0)
        return answer.read().strip() or f"the process that ran the notebook ended with exit status {process.returncode}"


def _stop(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


class _StatusLine:
    """One line that says how far a notebook is; on a terminal it rewrites itself, in a log it comes every 15 seconds."""

    def __init__(self, name: str, expected: float | None) -> None:
        self.name, self.expected = name, expected
        self.start, self.told = time.monotonic(), 0.0
        self.sweep: tuple[str, float, float] | None = None  # title, when it was first seen, how far it was then
        self.terminal = sys.stdout.isatty()

    def show(self, status: dict[str, Any] | None) -> None:
        now = time.monotonic()
        if not self.terminal and now - self.told < 15:
            return
        self.told = now
        elapsed = now - self.start
        text = f"{self.name}: {_clock(elapsed)}"
        if self.expected and elapsed < self.expected:
            text += f", about {_clock(self.expected - elapsed)} left"
        if status:
            title, done, total = status["title"], status["done"], status["total"]
            if self.sweep is None or self.sweep[0] != title:
                self.sweep = (title, now, done)
            _, since, before = self.sweep
            text += f" · {title}: {done:.1f} of {total} runs"
            if done > before:
                text += f", {_clock((now - since) * (total - done) / (done - before))} left"
        print(f"\r\x1b[K{text}" if self.terminal else text, end="" if self.terminal else "\n", flush=True)

    def clear(self) -> None:
        if self.terminal:
            print("\r\x1b[K", end="", flush=True)


def _clock(seconds: float) -> str:
    """Minutes and seconds.

    Example:
        >>> _clock(75.4)
        '1:15'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def verify(wanted: Order) -> bool:
    """Make the papers from nothing and compare every claim with the committed ledger.

    The caller gives an empty folder as PAPERS_BUILD, so that no earlier result is used.

    Returns:
        Whether all verdicts and values agree.

    Raises:
        Refused: another scale than that of the figures of record, or changed parameters.
    """
    if not wanted.publishes:
        raise Refused("verify compares with the figures of record: it takes --scale standard only, and no --params")
    with clusters.Cluster(wanted.executor) as cluster:
        return all([_agrees(card, wanted, cluster) for card in wanted.papers])  # a list: all of them are told


def _agrees(card: Card, wanted: Order, cluster: clusters.Cluster) -> bool:
    parameters = card.parameters(wanted.scale, wanted.device)
    trouble = _run(card, wanted, parameters, card.content_key(parameters), cluster)
    committed, fresh = read_ledger(card.committed), read_ledger(card.output(wanted.scale))
    if trouble or committed is None or fresh is None:
        told = [trouble or f"{relative(card.committed)} holds no whole claims.json; run make figures first"]
    else:
        told = claims.deviations(committed, fresh)
    print(
        f"{card.key}: " + ("agrees with what is committed" if not told else "DIFFERS\n  " + "\n  ".join(told)),
        flush=True,
    )
    return not told


def stale(cards: Sequence[Card]) -> list[str]:
    """What is committed but no longer what the code would make; nothing is trained to find out.

    Returns:
        One sentence per trouble; empty when the committed figures are current.
    """
    told = []
    for card in cards:
        record = read_record(card.committed) or {}
        parameters = card.parameters("standard", record.get("device", "cpu"))
        told += _troubles(card.committed, card.content_key(parameters))
    return told + gallery.stale()
