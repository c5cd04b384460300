"""Rows a second and peak memory of reading data: generated pairs, checked as a stream and kept as a data set.

    python benchmarks/read_rows.py                      # 50,000 and 500,000 rows
    python benchmarks/read_rows.py --rows 20000 --mode scan

Each measurement is a process of its own. `scan` keeps counts and hashes, as `equipoise data check` can; `read` keeps
the records, as training must. Memory is the peak beyond that of a process which has read one row; seconds are those of
the processor.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

MODES = ("scan", "read")


def write_rows(path: Path, count: int) -> None:
    """Pairs of some 300 characters; every prompt occurs twice, every hundredth row is a duplicate or has no answer."""
    with path.open("w") as file:
        for i in range(count):
            number = i - 1 if i % 200 == 199 else i
            row = {
                "prompt": f"Question {number // 2}: how does one count to {number // 2}?",
                "chosen": f"The answer to {number} is this: " + "one after the other, " * 4,
                "rejected": "" if i % 200 == 99 else f"Nobody knows {number}, " + "and nobody cares " * 4,
                "source": "generated",
            }
            file.write(json.dumps(row) + "\n")


def measured(path: Path, mode: str) -> dict[str, float]:
    """Reads the file in this process: seconds, rows, and the peak of resident memory in MiB."""
    from equipoise.data.reading.read import read, scan

    started = time.process_time()
    if mode == "scan":
        stream = scan(path)
        for _ in stream:
            pass
        ledger = stream.ledger
    else:
        data = read(path)
        ledger = data.ledger
    seconds = time.process_time() - started
    ledger.balance()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": ledger.read, "used": ledger.used, "seconds": seconds, "peak": peak}


def in_process(path: Path, mode: str) -> dict[str, float]:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--measure", str(path), "--mode", mode]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 500_000])
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.measure:
        print(json.dumps(measured(given.measure, given.mode[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "one.jsonl"
        write_rows(one, 1)
        print("| rows | | rows/s | peak MiB | bytes a row |\n|---|---|---|---|---|")
        for count in given.rows:
            path = Path(folder) / f"{count}.jsonl"
            write_rows(path, count)
            for mode in given.mode:
                found, empty = in_process(path, mode), in_process(one, mode)
                more = found["peak"] - empty["peak"]
                print(
                    f"| {count:,} | {mode} | {count / found['seconds']:,.0f} | {more:,.0f} | "
                    f"{more * 2**20 / count:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
