"""Progress lines: the pace of a phase in the unit that says more."""

import time

import pytest

from equipoise.run.screen.plain import PlainLines
from equipoise.worlds.text.progress import Progress


@pytest.mark.parametrize(
    ("done", "seconds", "says"),
    [(30, 60, "0.5/s"), (3, 60, "20.0 s each"), (0, 60, "0.0/s"), (120, 60, "2.0/s")],
)
def test_slow_units_are_told_in_seconds_each_never_as_none_per_second(done, seconds, says, capsys):
    with Progress(callbacks=[PlainLines()]).phase(1, "training", 200, "steps") as phase:
        phase.tick(done)
        phase.started = time.perf_counter() - seconds * 0.999
    line = capsys.readouterr().err
    assert f"{done}/200 steps  {says}  " in line
