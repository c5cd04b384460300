"""LLM judging under faults: are 10,000 comparisons judged exactly once, whatever the server and the process suffer?

A server in a process of its own speaks the OpenAI protocol and fails at 30 % of all requests. The asking process is
killed twice and started again; then two processes share one store; then the same questions are timed by concurrency.

    python benchmarks/judge_faults.py [--comparisons 10000] [--timed 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import torch

# share of all requests -> what happens; the rest is answered after LATENCY
FAULTS = {
    "429 with Retry-After": 0.05,
    "429": 0.05,
    "500": 0.05,
    "cut verdict": 0.03,
    "another schema": 0.03,
    "cut body": 0.02,
    "connection reset": 0.03,
    "no answer in time": 0.02,
    "slow answer": 0.02,
}
LATENCY, SLOW, NEVER = 0.02, 0.4, 6.0  # seconds
TIMEOUT, RETRY_AFTER, WAIT = 3.0, 0.15, 0.05
REFUSED = 500  # one question in so many is refused for good (400)
KILLED = (0.3, 0.65)  # shares of the answers after which the asking process is killed


def share(*parts: Any) -> float:
    """A number in [0, 1) made from what is given."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big") / 2**56


def questions(count: int) -> tuple[list[str], list[str], list[str]]:
    prompts = [f"question {i}" for i in range(count)]
    return (
        prompts,
        [f"a{i} " * (1 + i % 7) for i in range(count)],
        [f"b{i} " * (1 + i % 5) for i in range(count)],
    )


def better(i: int) -> str:
    a, b = 1 + i % 7, 1 + i % 5
    return "tie" if a == b else "A" if a < b else "B"


def refused(i: int) -> bool:
    return i % REFUSED == REFUSED // 2


class Server:
    """Counts by question; answers what `better` says."""

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()
        self.answered: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.billed = self.early = 0
        self.not_before: dict[int, float] = {}

    def report(self) -> dict[str, Any]:
        return {
            "requests": sum(self.requests.values()),
            "answered": dict(self.answered),
            "faults": dict(self.faults),
            "billed": self.billed,
            "early": self.early,
        }

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if head.startswith("GET"):
                    self._write(writer, 200, json.dumps(self.report()).encode())
                    if "/reset" in head.split("\r\n")[0]:
                        self.__init__()  # type: ignore[misc]
                    continue
                length = next(
                    int(h.split(":")[1]) for h in head.split("\r\n") if h.lower().startswith("content-length")
                )
                if not await self.answer(json.loads(await reader.readexactly(length)), reader, writer):
                    return
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(
        self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection goes on."""
        i = int(request["messages"][1]["content"].split("question ")[1].split()[0])
        self.requests[i] += 1
        self.early += time.monotonic() < self.not_before.pop(i, 0.0)
        if refused(i):
            self._write(writer, 400, b'{"error": {"message": "content policy"}}')
            return True
        fault = self.fault(i)
        self.faults[fault or "none"] += 1
        await asyncio.sleep(
            SLOW if fault == "slow answer" else NEVER if fault == "no answer in time" else LATENCY
        )
        if fault == "no answer in time":
            return False
        if reader.at_eof():  # whoever asked has gone
            self.faults["gone before the answer"] += 1
            return False
        if fault == "connection reset":
            writer.transport.abort()
            return False
        if fault in ("429", "429 with Retry-After", "500"):
            self.refuse(i, fault, writer)
            return True
        said = {"cut verdict": '{"winner": "', "another schema": '{"verdict": 1}'}.get(fault or "")
        used = {"prompt_tokens": 100 + i % 400, "completion_tokens": 5 + i % 13}
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": said or json.dumps({"winner": better(i)})},
        }
        body = json.dumps(
            {
                "id": "x",
                "object": "chat.completion",
                "model": "m",
                "created": 0,
                "choices": [choice],
                "usage": used,
            }
        ).encode()
        if fault == "cut body":
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                + body[:40]
            )
            return False
        self.billed += sum(used.values())
        self.answered[i] += said is None
        self._write(writer, 200, body)
        return True

    def fault(self, i: int) -> str | None:
        at = share("fault", i, self.requests[i])
        for name, part in FAULTS.items():
            at -= part
            if at < 0:
                return name
        return None

    def refuse(self, i: int, fault: str, writer: asyncio.StreamWriter) -> None:
        more = ""
        if fault == "429 with Retry-After":
            more = f"Retry-After: {RETRY_AFTER}\r\n"
            self.not_before[i] = time.monotonic() + RETRY_AFTER
        self._write(writer, int(fault[:3]), b'{"error": {"message": "busy"}}', more)

    def _write(self, writer: asyncio.StreamWriter, status: int, body: bytes, more: str = "") -> None:
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode()  # noqa: E501
            + body
        )


async def serve() -> None:
    server = await asyncio.start_server(Server().connected, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def ask(args: argparse.Namespace) -> None:
    """One asking process: its figures as a line of JSON."""
    from equipoise.oracles import Asking, Policy, VerdictStore
    from equipoise.oracles.judges.judge import JudgeFile, JudgeOracle

    file = JudgeFile(
        model="m",
        base_url=f"http://127.0.0.1:{args.port}/v1",
        timeout=TIMEOUT,
        price={"input": 1, "output": 1},
    )
    judge = JudgeOracle.of(file.model_dump(exclude={"prompt"}), Path("judge.yaml"))
    policy = Policy(concurrency=args.concurrency, retries=8, wait=WAIT, failures=0.01, both_orders=False)
    oracle = Asking(judge, VerdictStore(Path(args.store)), policy)
    begun = time.perf_counter()
    verdicts = oracle.compare(*questions(args.comparisons))
    seconds = time.perf_counter() - begun
    value = {"A": 1.0, "B": 0.0, "tie": 0.5}
    right = torch.tensor(
        [float("nan") if refused(i) else value[better(i)] for i in range(args.comparisons)]
    ).double()
    wrong = int((~((verdicts == right) | (verdicts.isnan() & right.isnan()))).sum())
    account = oracle.account
    line = {
        "seconds": seconds,
        "wrong": wrong,
        "missing": int(verdicts.isnan().sum()),
        "asked": account.asked,
        "answered": account.answered,
        "stored": account.stored,
        "failed": account.failed,
        "cost": account.cost,
        "spent": oracle.store.spent(oracle.fingerprint)[1],
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cpu": sum(resource.getrusage(resource.RUSAGE_SELF)[:2]),
        "fingerprint": oracle.fingerprint,
    }
    print(json.dumps(line), flush=True)


class Bench:
    """The server, and asking processes against it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
        self.port = int(self.server.stdout.readline())  # type: ignore[union-attr]

    def counts(self, path: str = "counts") -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}") as reply:
            return json.load(reply)

    def start(self, store: str, comparisons: int, concurrency: int) -> subprocess.Popen[str]:
        given = [
            "--port",
            self.port,
            "--store",
            self.folder / store,
            "--comparisons",
            comparisons,
            "--concurrency",
            concurrency,
        ]
        return subprocess.Popen(
            [sys.executable, __file__, "ask", *map(str, given)], stdout=subprocess.PIPE, text=True
        )

    def finish(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        out, _ = process.communicate()
        assert process.returncode == 0, process.returncode
        return json.loads(out)

    def stored(self, store: str) -> tuple[int, int]:
        """(verdicts, tokens paid for) in a store, read by another connection."""
        import sqlite3

        with sqlite3.connect(self.folder / store) as db:
            count, cost = db.execute("SELECT COUNT(*), COALESCE(SUM(cost), 0) FROM verdict").fetchone()
            lost = db.execute("SELECT COALESCE(SUM(cost), 0) FROM lost").fetchone()[0]
        return count, round((cost + lost) * 1e6)


def killed_twice(bench: Bench, n: int, concurrency: int) -> None:
    bench.counts("reset")
    in_flight, unpaid = [], []
    for part in KILLED:
        process = bench.start("killed.sqlite", n, concurrency)
        while sum(bench.counts()["answered"].values()) < part * n:
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(NEVER + 0.5)  # what is in flight at the server comes to its end
        seen = bench.counts()
        verdicts, paid = bench.stored("killed.sqlite")
        in_flight.append(sum(seen["answered"].values()) - verdicts - sum(in_flight))
        unpaid.append(seen["billed"] - paid - sum(unpaid))
    line = bench.finish(bench.start("killed.sqlite", n, concurrency))
    seen, (verdicts, paid) = bench.counts(), bench.stored("killed.sqlite")
    again = sum(times - 1 for times in seen["answered"].values())
    print(
        f"\n{n:,} comparisons, {concurrency} at once, killed after {' and '.join(f'{p:.0%}' for p in KILLED)}"
    )
    print(f"requests {seen['requests']:,}; faults {seen['faults']}")
    print(
        f"verdicts stored {verdicts:,}; refused for good and reported {line['failed']} of {sum(map(refused, range(n)))}; wrong {line['wrong']}"  # noqa: E501
    )
    print(
        f"answered at the server, not yet stored when killed: {in_flight}; answered twice: {again} (no other question)"
    )
    print(f"requests that came before the Retry-After: {seen['early']}")
    print(
        f"tokens billed {seen['billed']:,} = stored {paid:,} + in flight at the kills {sum(unpaid):,}: {seen['billed'] == paid + sum(unpaid)}"  # noqa: E501
    )
    print(f"last process: {line['stored']:,} read back, {line['answered']:,} answered, {line['mib']:.0f} MiB")
    assert again == sum(in_flight) and line["wrong"] == 0 and verdicts + line["failed"] == n


def shared(bench: Bench, n: int) -> None:
    bench.counts("reset")
    first, second = (bench.start("shared.sqlite", n, 16) for _ in range(2))
    lines = [bench.finish(first), bench.finish(second)]
    seen, (verdicts, paid) = bench.counts(), bench.stored("shared.sqlite")
    again = sum(times - 1 for times in seen["answered"].values())
    print(f"\ntwo processes, one store, {n:,} comparisons, 16 at once each")
    print(
        f"answered {[line['answered'] for line in lines]}, read back {[line['stored'] for line in lines]}, answered twice {again}"  # noqa: E501
    )
    print(
        f"wrong {[line['wrong'] for line in lines]}; verdicts {verdicts:,}; tokens billed {seen['billed']:,}, stored {paid:,}"  # noqa: E501
    )


def timed(bench: Bench, n: int, numbers: list[int]) -> None:
    print(
        f"\n| at once | seconds for {n:,} | comparisons/s | processor seconds | requests | wrong |\n|---|---|---|---|---|---|"  # noqa: E501
    )
    for concurrency in numbers:
        bench.counts("reset")
        line = bench.finish(bench.start(f"timed-{concurrency}.sqlite", n, concurrency))
        requests = bench.counts()["requests"]
        print(
            f"| {concurrency} | {line['seconds']:.1f} | {n / line['seconds']:.0f} | {line['cpu']:.1f} | {requests:,} | {line['wrong']} |",  # noqa: E501
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=["serve", "ask"], help=argparse.SUPPRESS)
    parser.add_argument("--comparisons", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--timed", type=int, default=1_000)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part == "serve":
        asyncio.run(serve())
    elif args.part == "ask":
        ask(args)
    else:
        with tempfile.TemporaryDirectory() as name:
            bench = Bench(Path(name))
            try:
                killed_twice(bench, args.comparisons, args.concurrency)
                shared(bench, args.timed)
                timed(bench, args.timed, [1, 4, 16, 64])
            finally:
                os.kill(bench.server.pid, signal.SIGTERM)
                bench.server.wait()


if __name__ == "__main__":
    main()
