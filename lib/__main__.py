"""Command line behind the Makefile: `python -m lib figures`, `verify`, `check`, `gallery`, `script`."""

import argparse
import signal
import sys
from pathlib import Path

from lib import clusters, gallery, make
from lib.cards import all_cards
from lib.errors import PlainError, Refused


class _Parser(argparse.ArgumentParser):
    """Refuses in the one sentence that everything else is refused in."""

    def error(self, message: str) -> None:
        raise Refused(f"{' '.join(message.split())} (python -m lib --help tells what there is)")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 something failed, 2 refused."""
    parser = _Parser(prog="python -m lib", description="Make, verify and check the papers.", allow_abbrev=False)
    parser.add_argument("command", choices=("figures", "verify", "check", "gallery", "script"))
    parser.add_argument("--paper", default="", help="keys of papers; all when empty")
    parser.add_argument("--scale", default="standard", help="quick, standard or paper")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--executor", default="loky", help="serial, loky, dask, tcp://host:port or a queue file")
    parser.add_argument(
        "--params", default="", help="name=value pairs for a trial that leaves the figures of record alone"
    )
    # A closed terminal ends the work as Ctrl-C does, leaving nothing behind.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    try:
        asked = parser.parse_args(arguments)
        for option, value in vars(asked).items():
            setattr(asked, option, "--" if value == [] else value)  # what Python 3.11 makes of `--paper=--`
        if asked.command == "gallery":
            gallery.refresh()
            return 0
        if asked.command == "check":
            troubles = make.stale(list(all_cards().values()))
            print("\n".join(troubles) or "the committed figures are current")
            return 1 if troubles else 0
        if asked.command == "script":
            print(clusters.job_script(Path(asked.executor)))
            return 0
        wanted = make.order(asked.paper, asked.scale, asked.device, asked.executor, asked.params)
        return 0 if (make.make if asked.command == "figures" else make.verify)(wanted) else 1
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        return 2
    except (PlainError, OSError) as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; finished runs are kept, and the same command goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
