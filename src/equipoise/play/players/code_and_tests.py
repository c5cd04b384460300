"""Self-written code and tests: several programs and several tests of one problem, all by one policy (DSTC)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from equipoise.play.capabilities import SelfWrittenTests, needing
from equipoise.play.decoding import Decode
from equipoise.play.players.protocol import Players, name_of
from equipoise.play.rows import Rows
from equipoise.play.state import START, State, Who
from equipoise.play.world import World

ASK_CODE = "{prompt}"
ASK_TEST = (
    "{prompt}\n\nDo not write this function. Write one test of it instead: a Python assert statement that calls the "
    "function, in a code block."
)
ASK_BOTH = "{prompt}\n\nThen write one test of it: a Python assert statement that calls the function."


@dataclass(frozen=True, kw_only=True)
class CodeAndTests(Players):
    """`codes` programs and `tests` tests per problem, columns in this order, all sampled from one policy.

    ask_code, ask_test   templates of the prompts that ask for them.
    ask_both             template of the prompt that code and test together answer: the prompt that is trained.
    temperature, top_p   decoding, see `play.decoding`; None leaves it to the run.

    Raises ValueError for a template without `{prompt}`, and for fewer than two codes or no test.
    """

    codes: int = 8
    tests: int = 8
    ask_code: str = ASK_CODE
    ask_test: str = ASK_TEST
    ask_both: str = ASK_BOTH
    temperature: float | None = None
    top_p: float | None = None
    by: Who = START
    parameters: ClassVar[tuple[str, ...]] = ("codes", "tests", "ask_code", "ask_test", "ask_both")
    capabilities: ClassVar[tuple[type, ...]] = (SelfWrittenTests,)

    def __post_init__(self) -> None:
        if self.codes < 2 or self.tests < 1:
            raise ValueError(
                f"need at least two codes and one test per problem, got {self.codes} and {self.tests}"
            )
        for name in ("ask_code", "ask_test", "ask_both"):
            if "{prompt}" not in str(getattr(self, name)):
                raise ValueError(f"{name} must hold {{prompt}}, the place of the problem's own text")

    @property
    def width(self) -> int:
        return self.codes + self.tests

    def write(self, world: World, state: State) -> Rows:
        bench, rows = needing(world, SelfWrittenTests), world.prompts(state)
        asked = [bench.asked(rows, how) for how in (self.ask_code, self.ask_test, self.ask_both)]
        decode = Decode(temperature=self.temperature, top_p=self.top_p)
        codes = world.sample(state, asked[0], self.by, self.codes, decode)
        tests = world.sample(state, asked[1], self.by, self.tests, decode)
        return asked[2].append(codes.responses, "code").append(tests.responses, "test")

    def writing(self, samples: int) -> CodeAndTests:
        raise ValueError(
            "play.samples does not apply: set codes and tests, the numbers of programs and tests per problem"
        )

    def describe(self) -> str:
        return f"{self.codes} programs and {self.tests} tests of each problem by {name_of(self.by)}"
