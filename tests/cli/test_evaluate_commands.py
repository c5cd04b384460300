"""`equipoise sample`, `chat` and `evaluate`: files, resumption, safe output, a run's own figures, refusals."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from equipoise.cli.app import main
from equipoise.core.intervals import clustered_share
from equipoise.data.reading.read import read
from equipoise.data.revision_prompt import leads_of
from equipoise.evaluate import lm_eval, writer
from equipoise.evaluate.answers import key_of, read_answers
from equipoise.evaluate.conversation import Chat
from equipoise.evaluate.located import locate
from equipoise.evaluate.suites import alpaca_eval, arena_hard, mt_bench
from equipoise.evaluate.writer import Writer, ranking_accuracy
from equipoise.models.errors import ModelError
from equipoise.play.seeds import Seeds
from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs
from equipoise.policy.generation.sampling import sample
from equipoise.policy.generation.self_revision import improve
from equipoise.policy.protocol import Decoding
from equipoise.run.session import align
from equipoise.worlds.text.folder import row_files

GAME = LanguageGame()
PROMPTS = GAME.prompts[:6]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in PROMPTS))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the built-in game: one round of DPO on few pairs."""
    folder = tmp_path_factory.mktemp("run")
    settings = {
        "evaluate.prompts": 5, "evaluate.samples": 2, "train.batch": 8, "sampling.max_new_tokens": 9, "data.pairs": 64,
    }  # fmt: skip
    return align("dpo", out=folder / "run", quiet=True, settings=settings)


def ask(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    assert end.value.code == 0


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


SAMPLE = ("--max-new-tokens", "9", "--seed", "3")


def test_revised_answers_are_those_that_the_policy_makes_of_its_own(prompts, tmp_path):
    """Once and twice: y0 ~ pi(.|x), then y ~ pid(.|y, x), each addressed by turn and number."""
    own = Writer.load(locate(str(model_path())))
    asked, seeds = own.prompts(read(prompts)), Seeds(3)
    decoding, lead = Decoding(max_new_tokens=9), leads_of(own.renderer, {False})
    groups = sample(own.policy, asked, 2, seed=seeds("sample"), decoding=decoding)
    last = [group[1] for group in groups]
    for turn in range(2):
        seed = seeds("revision", turn, 1)
        last = improve(own.policy, asked, last, lead=lead, seed=seed, decoding=decoding)
    ask(
        "sample",
        model_path(),
        "--data",
        prompts,
        "--out",
        tmp_path / "a",
        "-n",
        "2",
        "--revise",
        "2",
        *SAMPLE,
    )
    found = read_answers(tmp_path / "a")
    assert [found.by[key_of(text)][1].text for text in PROMPTS] == [response.text for response in last]
    assert [response.text for response in last] != [group[1].text for group in groups]


def test_sampled_answers_are_those_of_the_sampler(prompts, tmp_path):
    ask("sample", model_path(), "--data", prompts, "--out", tmp_path / "a.jsonl", "-n", "2", *SAMPLE)
    found = read_answers(tmp_path / "a.jsonl")
    own = Writer.load(locate(str(model_path())))
    asked = own.prompts(read(prompts))
    groups = sample(own.policy, asked, 2, seed=Seeds(3)("sample"), decoding=Decoding(max_new_tokens=9))
    assert [found.by[key_of(text)][1].text for text in PROMPTS] == [group[1].text for group in groups]
    assert [found.by[key_of(text)][0].logp for text in PROMPTS] == [group[0].logp for group in groups]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl"]
    assert read(tmp_path / "a.jsonl").kind == "demonstration"


def test_an_interrupted_sample_goes_on_and_leaves_the_same_file(prompts, tmp_path, monkeypatch):
    arguments = ["sample", model_path(), "--data", prompts, *SAMPLE, "--batch", "2"]
    monkeypatch.setattr(writer, "CHUNK", 2)
    ask(*arguments, "--out", tmp_path / "whole.jsonl")
    calls = []

    def interrupted(*a, **k):
        calls.append(k["places"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sample(*a, **k)

    monkeypatch.setattr(writer, "sample", interrupted)
    with pytest.raises(SystemExit):
        main([str(a) for a in (*arguments, "--out", tmp_path / "parts.jsonl")])
    assert not (tmp_path / "parts.jsonl").exists()
    with (tmp_path / "parts.jsonl.unfinished").open("a") as torn:
        torn.write('{"place": 2, "ans')  # a line cut short
    ask(*arguments, "--out", tmp_path / "parts.jsonl")
    assert calls[0] == [0, 1] and calls[2:] == [[2, 3], [4, 5]]
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_unfinished_answers_of_other_settings_are_not_used(prompts, tmp_path, monkeypatch):
    store = tmp_path / "kept"
    own = Writer.load(locate(str(model_path())))
    asked = own.prompts(read(prompts))[:2]
    one = writer.sampled(own, asked, 1, Decoding(max_new_tokens=9), store=store)
    assert writer.sampled(own, asked, 1, Decoding(max_new_tokens=9, batch=1), store=store) == one
    other = writer.sampled(own, asked, 1, Decoding(max_new_tokens=2), store=store)
    assert all(a.tokens == 2 for group in other.by.values() for a in group)


def test_alpaca_eval_layout(prompts, tmp_path):
    out = tmp_path / "model_outputs.json"
    ask(
        "sample",
        model_path(),
        "--data",
        prompts,
        "--out",
        out,
        "--format",
        "alpaca_eval",
        "--name",
        "mine",
        *SAMPLE,
    )
    rows = json.loads(out.read_text())
    assert [row["instruction"] for row in rows] == list(PROMPTS)
    assert {row["generator"] for row in rows} == {"mine"} and rows[0].keys() == {
        "instruction",
        "output",
        "generator",
    }


def test_sample_refuses_in_one_sentence(prompts, tmp_path, capsys):
    (tmp_path / "there.jsonl").write_text("x")
    given = ("sample", model_path(), "--data", prompts, "--out")
    assert "exists: choose another name" in refused(capsys, *given, tmp_path / "there.jsonl")
    assert "is a folder: name a file" in refused(capsys, *given, tmp_path, "--overwrite")
    assert "--format must be" in refused(capsys, *given, tmp_path / "a", "--format", "csv")
    assert "there is no such file or folder" in refused(
        capsys, "sample", tmp_path / "none/x/y", "--data", prompts, "--out", tmp_path / "a"
    )
    assert "a file of answers: there is no model" in refused(
        capsys, "sample", prompts, "--data", prompts, "--out", tmp_path / "a"
    )
    assert "temperature >= 0" in refused(capsys, *given, tmp_path / "a", "--top-p", "0")
    assert list(tmp_path.iterdir()) == [tmp_path / "there.jsonl"]


def test_chat_talks_through_a_pipe_and_escapes_what_it_prints(monkeypatch, capsys):
    heard = []

    def answer(self, text):
        heard.append((text, self.system))
        return f"\x1b]0;title\x07{text}\u202e"

    monkeypatch.setattr(Chat, "say", answer)
    lines = "hello\n\n/system Be brief.\nagain\n/reset\n/nothing\nlast\n/quit\nnever\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    ask("chat", model_path(), "--max-new-tokens", "4")
    out = capsys.readouterr().out
    assert heard == [("hello", None), ("again", "Be brief."), ("last", "Be brief.")]
    assert "\x1b" not in out and "\u202e" not in out and "\\x1b]0;title" in out
    assert "(system prompt set)" in out and "(forgotten)" in out and "/nothing is no command" in out


def test_a_conversation_keeps_its_history_until_it_is_reset():
    own = Writer.load(locate(str(model_path())))
    asked = []
    talk = Chat(own, Decoding(max_new_tokens=3), system="Be brief.")
    prompt = Writer.prompt

    def record(self, context):
        asked.append([dict(turn) for turn in context])
        return prompt(self, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Writer, "prompt", record)
        first = talk.say("one")
        talk.say("two")
        talk.reset()
        talk.say("three")
    assert [turn["content"] for turn in asked[1]] == ["Be brief.", "one", first, "two"]
    assert [turn["role"] for turn in asked[1]] == ["system", "user", "assistant", "user"]
    assert [turn["content"] for turn in asked[2]] == ["Be brief.", "three"]
    long = Chat(own, Decoding(max_new_tokens=3), plain=True)
    with pytest.raises(ModelError, match="/reset forgets it"):
        long.say("word " * 5000)


@pytest.mark.slow
def test_evaluation_of_a_run_repeats_the_run_s_own_figures(run, tmp_path, capsys):
    ask("evaluate", run.folder, "--out", tmp_path, "--json", "--reference", run.folder)
    found = json.loads(capsys.readouterr().out)
    own = json.loads((run.folder / "evaluation.jsonl").read_text().splitlines()[-1])
    (rate,) = found["win_rates"]
    assert rate["win_rate"] == pytest.approx(own["win_rate"], abs=1e-12)
    mine = found["own"][run.folder.name]
    assert mine["kl"] == pytest.approx(own["kl"], abs=1e-4)
    assert mine["tokens"] == pytest.approx(own["length"])
    assert mine["finished"]["value"] == own["finished"]
    assert found == json.loads((tmp_path / "results.json").read_text())
    assert "wins with" in (tmp_path / "evaluation.html").read_text()


@pytest.mark.slow
def test_a_run_s_policy_samples_again_what_the_run_sampled(run):
    where = locate(str(run.folder))
    own = Writer.load(where)
    rows = row_files.load(where.journal, where.journal.stage(1, "evaluation-policy"))
    asked = [own.prompt(prompt.context) for prompt in rows.prompts]
    assert asked == list(rows.prompts)
    address = Seeds(run.summary["seed"])("evaluation-policy", 2, "start")
    again = sample(own.policy, asked, 2, seed=address, decoding=Decoding(max_new_tokens=9))
    assert [[r.ids for r in group] for group in again] == [[r.ids for r in group] for group in rows.responses]


@pytest.mark.slow
def test_evaluate_models_and_files_on_new_prompts(run, prompts, tmp_path, capsys):
    ask(
        "sample",
        model_path(),
        "--data",
        prompts,
        "--out",
        tmp_path / "start.jsonl",
        "--name",
        "start",
        *SAMPLE,
    )
    capsys.readouterr()
    out = tmp_path / "out"
    given = [
        "evaluate",
        run.folder,
        tmp_path / "start.jsonl",
        "--data",
        prompts,
        "--oracle",
        "playground",
        *SAMPLE,
    ]
    ask(*given, "--out", out, "--everybody", "--json")
    found = json.loads(capsys.readouterr().out)
    (rate,) = found["win_rates"]
    game = GAME.oracle()
    mine = read_answers(out / "answers" / f"{run.folder.name}.jsonl")
    start = read_answers(tmp_path / "start.jsonl")
    keys = list(start.by)
    wins = game.compare(
        list(PROMPTS), [mine.by[k][0].text for k in keys], [start.by[k][0].text for k in keys]
    )
    assert rate["win_rate"] == pytest.approx(clustered_share(wins.numpy(), keys))
    assert found["models"] == [run.folder.name] and found["baseline"] == "start"
    assert found["population"]["prompts"] == len(PROMPTS)
    for format, reader in (
        ("alpaca_eval", alpaca_eval.read_annotations),
        ("arena_hard", arena_hard.read_judgments),
        ("mt_bench", mt_bench.read_matches),
    ):
        ask(*given, "--out", out, "--format", format)
        (written,) = (out / format).iterdir()
        assert reader(written)
    prob = alpaca_eval.read_annotations(next((out / "alpaca_eval").iterdir())).prob
    assert prob == pytest.approx(wins.numpy())


@pytest.mark.slow
def test_accuracies_on_held_out_pairs(run, tmp_path, capsys):
    pairs = write_pairs(tmp_path / "pairs.jsonl", GAME, 20, seed=9, reference=reference_policy())
    ask(
        "evaluate",
        run.folder,
        "--pairs",
        pairs,
        "--reference",
        model_path(),
        "--out",
        tmp_path / "o",
        "--json",
    )
    found = json.loads(capsys.readouterr().out)
    ranking = found["own"][run.folder.name]["ranking"]
    own, reference = (Writer.load(locate(str(p))) for p in (run.folder, model_path()))
    rendered, logp, length = own.pairs(read(pairs))
    right, per_token = ranking_accuracy(logp, length)
    assert ranking["accuracy"]["value"] == right.mean() == (logp[:, 0] >= logp[:, 1]).mean()
    assert ranking["per_token"]["value"] == per_token.mean()
    margin = np.diff(reference.pairs(read(pairs))[1] - logp)[:, 0]
    assert ranking["implicit_reward"]["value"] == pytest.approx(((margin > 0) + 0.5 * (margin == 0)).mean())
    records = read(pairs).records
    prob = GAME.oracle().compare(
        [r.context for r in records], *([r.candidates[k].text for r in records] for k in (0, 1))
    )
    assert found["judge"]["accuracy"]["accuracy"]["value"] == pytest.approx(
        float(((prob > 0.5) + 0.5 * (prob == 0.5)).mean())
    )
    assert len(rendered) == 20


@pytest.mark.slow
def test_rounds_of_a_run_are_named(run, capsys):
    assert locate(str(run.folder)).round == locate(str(run.folder), "best").round == 1
    assert locate(str(run.folder), "start").round == 0
    for round, says in (("7", "has no policy of round 7"), ("last", "--round must be")):
        assert says in refused(capsys, "evaluate", run.folder, "--round", round)


def test_judged_files_need_no_oracle(tmp_path, capsys):
    rows = [
        {"instruction": f"t{k}", "output_1": "b" * (k % 9), "output_2": "c" * (k % 4), "generator_1": "base",
         "generator_2": "<b>m</b>", "annotator": "j", "preference": 1 + (k % 3) / 2}
        for k in range(30)
    ]  # fmt: skip
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    ask("evaluate", tmp_path / "annotations.json", "--out", tmp_path / "o")
    said = capsys.readouterr().out
    assert "50.0 %" in said and "minimal form" in said
    page = (tmp_path / "o" / "evaluation.html").read_text()
    assert "&lt;b&gt;m&lt;/b&gt;" in page and "<b>m" not in page
    assert alpaca_eval.read_leaderboard(tmp_path / "o" / "leaderboard.csv")["<b>m</b>"]["n_total"] == "30"


def test_files_of_answers_are_compared_on_the_prompts_of_the_data(tmp_path, capsys):
    longer = tmp_path / "longer.py"
    longer.write_text(
        "def better(prompt, a, b):\n    return 0.5 + 0.5 * ((len(a) > len(b)) - (len(a) < len(b)))\n"
    )
    for name, texts in (("one", ["xx", "x", "xxx"]), ("two", ["x", "xx", "xxx"])):
        rows = [{"instruction": f"t{k}", "output": text, "generator": name} for k, text in enumerate(texts)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"prompt": f"t{k}"}) + "\n" for k in (0, 2)))
    given = [
        "evaluate",
        tmp_path / "one.json",
        tmp_path / "two.json",
        "--oracle",
        f"{longer}:better",
        "--json",
    ]
    for more, rate in ((), 0.5), (("--data", tmp_path / "data.jsonl"), 0.75):
        ask(*given, *more, "--out", tmp_path / "o")
        found = json.loads(capsys.readouterr().out)
        assert found["win_rates"][0]["win_rate"]["value"] == rate
    assert "answers to 1 prompts that are not in --data are left out" in found["notes"][0]
    (tmp_path / "other.jsonl").write_text('{"prompt": "another"}\n')
    assert "it answers none of the prompts of --data" in refused(
        capsys, *given, "--data", tmp_path / "other.jsonl", "--out", tmp_path / "o"
    )


def test_reward_bench_with_a_rule(tmp_path, capsys):
    (tmp_path / "longer.py").write_text("def score(prompt, answer):\n    return len(answer)\n")
    item = {"prompt": "q", "subset": "math-prm", "chosen": "xx", "rejected": "x", "id": 0}
    (tmp_path / "rb.json").write_text(json.dumps([item, item | {"rejected": "xx"}]))
    ask(
        "evaluate",
        tmp_path / "rb.json",
        "--oracle",
        f"{tmp_path / 'longer.py'}:score",
        "--out",
        tmp_path / "o",
        "--json",
    )
    found = json.loads(capsys.readouterr().out)["reward_bench"]
    assert (found["overall"], found["version"]) == (0.5, 1)


def test_evaluate_refuses_in_one_sentence(prompts, tmp_path, capsys):
    assert "give --oracle" in refused(capsys, "evaluate", model_path(), "--data", prompts)
    assert "needs prompts to answer; give --data" in refused(
        capsys, "evaluate", model_path(), "--oracle", "playground", "--out", tmp_path / "o"
    )
    annotation = {"instruction": "t", "output_1": "a", "output_2": "b", "preference": 1}
    (tmp_path / "a.json").write_text(json.dumps([annotation]))
    assert "what a judge said, and not answers" in refused(
        capsys, "evaluate", tmp_path / "a.json", model_path(), "--oracle", "playground"
    )
    assert "--format must be one of" in refused(capsys, "evaluate", model_path(), "--format", "helm")
    assert "is a file: --out names the folder" in refused(
        capsys, "evaluate", model_path(), "--data", prompts, "--oracle", "playground", "--out", prompts
    )


def test_a_model_that_cannot_be_loaded_is_refused_before_another_answers(prompts, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    given = ["evaluate", model_path(), "--data", prompts, "--oracle", "playground", "--out", tmp_path / "o"]
    for more in ("--baseline", tmp_path / "empty"), ("--reference", tmp_path / "empty"):
        said = refused(capsys, *given, *more)
        assert str(tmp_path / "empty") in said and "loading" not in said


def test_who_meets_nobody_gets_rewards_and_no_win_rate(tmp_path, capsys):
    (tmp_path / "longer.py").write_text("def score(prompt, answer):\n    return len(answer)\n")
    rows = [{"instruction": f"t{k}", "output": "x" * k, "generator": "one"} for k in range(1, 4)]
    (tmp_path / "one.json").write_text(json.dumps(rows))
    given = ["--oracle", f"{tmp_path / 'longer.py'}:score", "--out", tmp_path / "o", "--json"]
    for participants in ([tmp_path / "one.json"], [tmp_path / "one.json"] * 2):
        ask("evaluate", *participants, *given)
        found = json.loads(capsys.readouterr().out)
        assert found["own"]["one"]["reward"]["value"] == 2
        assert "win_rates" not in found and "one meets nobody" in found["notes"][0]


def test_lm_eval_is_handed_a_model_and_told_where_it_is_missing(monkeypatch, tmp_path, capsys):
    where = locate(str(model_path()))
    assert lm_eval.arguments(where) == f"pretrained={model_path()},dtype=float32,trust_remote_code=False"
    monkeypatch.setattr(lm_eval, "find_spec", lambda name: None)
    said = refused(capsys, "evaluate", model_path(), "--lm-eval", "arc_easy", "--out", tmp_path / "o")
    assert "lm-evaluation-harness is not installed: pip install" in said


def test_results_of_lm_eval_are_read_from_its_file(monkeypatch, tmp_path):
    """A stand-in for the harness's command line writes what that one writes."""
    harness = tmp_path / "python"
    harness.write_text(
        """#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = --output_path ] && out="$2"; shift; done
mkdir -p "$out/m"
echo '{"results": {"t": {"acc,none": 0.25, "alias": "t"}}}' > "$out/m/results_1.json"
"""
    )
    harness.chmod(0o755)
    where = locate(str(model_path()))
    assert lm_eval.measure(where, ["t"], python=str(harness)) == {"t": {"acc,none": 0.25}}
    harness.write_text("#!/bin/sh\necho 'ValueError: no such task' >&2\nexit 1\n")
    with pytest.raises(ModelError, match="failed on t: ValueError: no such task"):
        lm_eval.measure(where, ["t"], python=str(harness))


def test_a_principle_aligns_the_answers_while_they_are_written(prompts, tmp_path, capsys):
    """Step 0 is the model with the principle in its prompt; the answers keep the prompts that they were asked."""

    def answers(name, *arguments):
        out = tmp_path / name
        ask("sample", model_path(), "--data", prompts, "--out", out, *SAMPLE, *arguments)
        return [json.loads(line) for line in out.read_text().splitlines()]

    principle = PROMPTS[0]
    aligned = answers("aligned", "--principle", principle, "--strength", "4", "--top-p", "0.9")
    assert [row["prompt"] for row in aligned] == list(PROMPTS)
    led = tmp_path / "led.jsonl"
    led.write_text("".join(json.dumps({"prompt": f"{principle}\n\n{text}"}) + "\n" for text in PROMPTS))
    ask("sample", model_path(), "--data", led, "--out", tmp_path / "plain", *SAMPLE)
    plain = [json.loads(line)["completion"] for line in (tmp_path / "plain").read_text().splitlines()]
    unmoved = answers("unmoved", "--principle", principle, "--strength", "0")
    assert [row["completion"] for row in unmoved] == plain
    assert [row["completion"] for row in aligned] != plain

    given = ("sample", model_path(), "--data", prompts, "--out", tmp_path / "x")
    assert "which is not given" in refused(capsys, *given, "--divergence", "1")
    assert "must be > 0 nats" in refused(capsys, *given, "--principle", "p", "--divergence", "0")
    assert "leaves no room" in refused(capsys, *given, "--principle", "tea " * 600)


SYSTEM, USER = {"role": "system", "content": "brief"}, {"role": "user", "content": "tell"}


@pytest.mark.parametrize(
    "context, led",
    [
        ("tell", "be kind\n\ntell"),
        ([USER], [SYSTEM | {"content": "be kind"}, USER]),
        ([SYSTEM, USER], [SYSTEM | {"content": "brief\n\nbe kind"}, USER]),
    ],
)
def test_a_principle_joins_what_the_context_says(context, led):
    from equipoise.evaluate.principle import with_principle

    assert with_principle(context, "be kind") == led
    assert with_principle(context, "") == context
