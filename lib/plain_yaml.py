"""YAML as a card holds it: what YAML 1.1 would quietly read as something else is refused, with its line.

| written       | YAML 1.1 reads                  | here                                  |
|---------------|---------------------------------|---------------------------------------|
| `0123`, `0x1` | 83, 1                           | refused: whole numbers are decimal    |
| `1:30`        | 90, a number of base sixty      | refused: put text in quotes           |
| `2026-11-26`  | a date                          | refused: put text in quotes           |
| `a: 1`, twice | the last                        | refused: given twice                  |
| `!!set {a}`   | whatever the tag says           | refused: no tags                      |
| `&a [*a]`     | a list that holds itself        | refused; other anchors are fine       |
| `1e-3`, `no`  | text, false                     | the same: the types of fields tell    |
"""

import re
from pathlib import Path
from typing import Any

import yaml

from lib.errors import Refused, shown

DEEPEST = 20  # levels of nesting; the parser written in C crashes at some ten thousand
LARGEST = 100_000  # values, each as often as an anchor repeats it; the largest card has 700

# The same loader written in C, where PyYAML was built with it: ten times as fast.
_SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(path: Path, what: str) -> Any:
    """Content of a YAML file.

    Args:
        path: the file.
        what: what it should be, for the error: "a card".

    Raises:
        Refused: the file cannot be read, or holds something that the table above refuses.
    """
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        return load(text)
    except (OSError, ValueError) as error:  # not there, not UTF-8, or no name that a file could have
        raise Refused(f"{path} cannot be read as {what}: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        lines = text.splitlines()[mark.line :] if mark else []
        place = f", line {mark.line + 1} ({shown(lines[0].strip())})" if lines else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise Refused(f"{path}{place} cannot be read as {what}: {problem}") from error


def load(text: str) -> Any:
    """Content of a YAML text.

    Raises:
        yaml.YAMLError: the text is no YAML, or holds something that the table above refuses.

    Example:
        >>> load("lr: 1.0e-3")
        {'lr': 0.001}
        >>> load("steps: 0123")
        Traceback (most recent call last):
        yaml.constructor.ConstructorError: write whole numbers in decimal, without leading zeros; got '0123'
        ...
    """
    _check_shape(text)
    return yaml.load(text, _Loader)


def _refusal(problem: str, mark: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def _check_shape(text: str) -> None:
    """Refuse tags, and what is too deep, too large or part of itself, before anything is built from it."""
    sizes: dict[str, int] = {}  # of what each anchor stands for
    counts, anchors = [0], [None]  # values so far in each open list or mapping, and its anchor
    for event in yaml.parse(text, _SAFE_LOADER):
        if getattr(event, "tag", None) is not None:
            raise _refusal(f"tags such as {event.tag.rpartition(':')[2]!r} are not taken; remove it", event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            counts.append(1)
            anchors.append(event.anchor)
            if len(counts) > DEEPEST:
                raise _refusal(f"lists and mappings may lie in each other {DEEPEST} deep at most", event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            size, anchor = counts.pop(), anchors.pop()
            counts[-1] += size
            sizes |= {anchor: size} if anchor else {}
        elif isinstance(event, yaml.ScalarEvent):
            counts[-1] += 1
            sizes |= {event.anchor: 1} if event.anchor else {}
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in anchors:
                raise _refusal(f"*{event.anchor} is part of what it stands for", event.start_mark)
            counts[-1] += sizes.get(event.anchor, 1)
        if counts[-1] > LARGEST:
            raise _refusal(f"there are more than {LARGEST} values", event.start_mark)


class _Loader(_SAFE_LOADER):
    """The safe loader without its surprises."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in getattr(node, "value", ()):
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                if key.value in seen:
                    raise _refusal(f"{shown(key.value)} is given twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _whole_number(loader: _Loader, node: Any) -> int:
    if not re.fullmatch(r"[-+]?(0|[1-9][0-9_]{0,999})", node.value):
        raise _refusal(
            f"write whole numbers in decimal, without leading zeros; got {shown(node.value)}"
            + (" (text belongs in quotes)" if ":" in node.value else ""),
            node.start_mark,
        )
    return loader.construct_yaml_int(node)


def _number(loader: _Loader, node: Any) -> float:
    if ":" in node.value:
        raise _refusal(f"write numbers in decimal, and text in quotes; got {shown(node.value)}", node.start_mark)
    return loader.construct_yaml_float(node)


def _date(loader: _Loader, node: Any) -> None:
    raise _refusal(f"{shown(node.value)} would be a date; put it in quotes", node.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _date)
