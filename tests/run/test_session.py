"""A whole run: refused before compute, finished once, frozen in shape."""

from __future__ import annotations

import json

import pytest

from equipoise.cli.app import main
from equipoise.data.errors import DataError
from equipoise.oracles.protocol import OracleError
from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs
from equipoise.policy.causal import CausalPolicy
from equipoise.run.config import ConfigError, resolve
from equipoise.run.materials import gather
from equipoise.run.session import align
from equipoise.worlds.text import sampling

SETTINGS = {
    "evaluate.prompts": 3,
    "evaluate.samples": 2,
    "train.batch": 8,
    "train.lr": 3e-4,
    "sampling.max_new_tokens": 9,
}
SUMMARY = {
    "method", "title", "paper", "confidence", "rounds", "seed", "win_rate", "exact_win_rate", "exploitability",
    "kl", "exact_kl", "accuracy", "ranking", "ranking_gain", "automatic", "delivered", "chosen_log_ratio", "length",
    "judge_calls", "step_zero_log_ratio_per_token", "seconds", "tokens", "model", "data", "oracle", "hash", "status",
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    return write_pairs(path, LanguageGame(), 24, seed=1, reference=reference_policy())


def play(out, pairs, method="dpo", **changes):
    settings = SETTINGS | changes.pop("settings", {})
    return align(
        method,
        **({"model": model_path(), "data": pairs, "out": out, "quiet": True, "settings": settings} | changes),
    )


@pytest.fixture(scope="module")
def finished(pairs, tmp_path_factory):
    return play(tmp_path_factory.mktemp("run") / "run", pairs)


def test_run_folder(finished):
    names = {f.name for f in finished.folder.iterdir()}
    assert {
        "config.yaml", "environment.json", "ledger.json", "metrics.jsonl", "evaluation.jsonl", "samples.jsonl",
        "timings.jsonl", "checks.jsonl", "summary.json", "report.html", "rounds", "anchors", "checkpoints",
    } <= names  # fmt: skip
    summary = json.loads((finished.folder / "summary.json").read_text())
    assert summary.keys() == SUMMARY
    assert summary == finished.summary
    assert (summary["method"], summary["rounds"], summary["status"]) == ("dpo", 1, "finished")
    assert summary["step_zero_log_ratio_per_token"] < 1e-5
    assert finished.checkpoint.name == "round-001"
    assert not list(finished.folder.rglob("*.partial"))


def test_the_start_is_sampled_once_and_judged_against_nobody(tmp_path, pairs):
    """Before training the policy is the reference, whose samples serve every evaluation of the run."""
    asked = []

    def shorter(prompt, a, b):
        asked.append((a, b))
        return 0.5 + 0.5 * ((len(a) < len(b)) - (len(a) > len(b)))

    settings = SETTINGS | {"evaluate.prompts": 4, "play.rounds": 1}
    rounds = tmp_path / "run" / "rounds"
    made = play(rounds.parent, pairs, oracle=shorter, settings=settings)
    assert sorted(f.name for f in rounds.rglob("evaluation-*.parquet")) == [
        "evaluation-policy.parquet",
        "evaluation-reference.parquet",
    ]
    start, trained = map(json.loads, (made.folder / "evaluation.jsonl").read_text().splitlines())
    assert start["win_rate"] == {"value": 0.5, "low": None, "high": None, "n": 0}
    assert abs(start["kl"]["value"]) < 1e-4  # the sampler's log-probs and the scorer's
    verdicts = list(map(json.loads, (made.folder / "verdicts.jsonl").read_text().splitlines()))
    assert {line["round"] for line in verdicts} == {1}
    assert 0 < len(asked) <= 2 * len(verdicts)  # one round's, in both orders at most
    assert trained["win_rate"]["value"] == sum(line["win"] for line in verdicts) / len(verdicts)


def test_finished_run_returns_with_the_same_figures(finished, pairs, monkeypatch):
    monkeypatch.setattr(sampling, "sample", lambda *a, **k: pytest.fail("sampled again"))
    before = {f: f.stat().st_mtime_ns for f in finished.folder.rglob("*.safetensors")}
    again = play(finished.folder, pairs)
    passing = {"seconds", "tokens"}
    assert {k: v for k, v in again.summary.items() if k not in passing} == {
        k: v for k, v in finished.summary.items() if k not in passing
    }
    assert {f: f.stat().st_mtime_ns for f in finished.folder.rglob("*.safetensors")} == before


def test_other_settings_are_refused_with_the_difference(finished, pairs):
    with pytest.raises(ConfigError, match=r"(?s)has a run with other settings:\n  seed: 0 -> 1\n"):
        play(finished.folder, pairs, seed=1)
    with pytest.raises(ConfigError, match=r"objective\.beta: 0\.1 -> 0\.2"):
        play(finished.folder, pairs, settings={"beta": 0.2})


def test_changed_data_are_another_run(finished, pairs):
    text = pairs.read_text()
    try:
        pairs.write_text(text + text.splitlines()[0].replace("prompt", "prompt") + "\n")
        with pytest.raises(ConfigError, match=r"data .*pairs\.jsonl: has changed since the run began"):
            play(finished.folder, pairs)
    finally:
        pairs.write_text(text)


def test_its_own_config_file_repeats_a_run(finished, tmp_path):
    again = align("dpo", config=finished.folder / "config.yaml", out=tmp_path / "again", quiet=True)
    assert again.summary["hash"] == finished.summary["hash"]
    weights = [r.checkpoint.joinpath("model.safetensors").read_bytes() for r in (again, finished)]
    assert weights[0] == weights[1]


def test_report_command(finished, capsys):
    (finished.folder / "report.html").unlink()
    with pytest.raises(SystemExit) as end:
        main(["report", str(finished.folder)])
    assert end.value.code == 0
    assert (finished.folder / "report.html").exists()
    assert "report.html" in capsys.readouterr().out


def test_foreign_folder_is_left_alone(tmp_path, pairs):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="not empty and is not a run folder"):
        play(tmp_path, pairs)
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.tex"]


ROW = {"prompt": LanguageGame().prompts[0], "chosen": "Gladly", "rejected": "tea"}


@pytest.mark.parametrize(
    ("lines", "changes", "error", "says"),
    [
        (['{"prompt": "x", "chosen": '], {}, DataError, r"bad\.jsonl:1"),
        ([json.dumps(ROW | {"chosen": ""})], {}, DataError, r"bad\.jsonl.*1"),
        ([json.dumps(ROW | {"prob": float("nan")})], {}, DataError, r"bad\.jsonl.*1"),
        ([json.dumps(ROW)], {"settings": {"template": "{{ nonsense("}}, DataError, "template"),
        (
            [json.dumps(ROW)],
            {"method": "inpo"},
            ConfigError,
            "inpo needs an oracle that compares two responses; give --oracle",
        ),
        ([json.dumps(ROW)], {"oracle": "no_such_module:f"}, OracleError, "cannot import 'no_such_module'"),
        ([json.dumps(ROW)], {"data": None}, ConfigError, "trains on preference pairs; give --data"),
        (
            [json.dumps({"prompt": f"p{i}"}) for i in range(3)],
            {},
            ConfigError,
            "needs preference pairs; the data contain",
        ),
    ],
)
def test_refused_before_a_model_is_loaded(tmp_path, monkeypatch, lines, changes, error, says):
    monkeypatch.setattr(CausalPolicy, "load", lambda *a, **k: pytest.fail("a model was loaded"))
    (tmp_path / "bad.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(error, match=rf"(?s){says}"):
        play(tmp_path / "run", tmp_path / "bad.jsonl", **changes)


def gathered(tmp_path, rows, method):
    path = tmp_path / f"{method}-{len(rows)}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return gather(
        resolve(method, {}, {"data.path": [str(path)], "model.path": str(model_path())}, {}), tmp_path
    )


def test_odpo_reads_margins_of_pairs_and_of_lists(tmp_path):
    margins = [None, 0, -1, 0.5, 2, 3]
    rows = [
        {"prompt": f"p{i}", "chosen": " a", "rejected": " b"} | ({} if m is None else {"margin": m})
        for i, m in enumerate(4 * margins)
    ]
    found = gathered(tmp_path, rows, "odpo").pairs
    assert found.prob is None and set(map(tuple, found.reward.tolist())) == {(m, 0.0) for m in margins[3:]}
    lists = [{"prompt": f"p{i}", "responses": [" a", " b"], "rewards": [0.25, 1]} for i in range(8)]
    made = gathered(tmp_path, lists, "odpo").pairs
    assert set(map(tuple, made.reward.tolist())) == {(0.75, 0.0)} and made.responses[0, 0].text == " b"
    assert gathered(tmp_path, lists, "dpo").pairs.reward is None
    with pytest.raises(DataError, match="no pair has a margin above 0"):
        gathered(tmp_path, [row for row in rows if "margin" not in row], "odpo")


def test_a_refused_call_does_not_claim_the_folder(tmp_path, pairs):
    broken = tmp_path / "d.jsonl"
    broken.write_text("{")
    with pytest.raises(DataError):
        play(tmp_path / "run", broken)
    broken.write_bytes(pairs.read_bytes())
    assert play(tmp_path / "run", broken).summary["status"] == "finished"


def test_lora_run(tmp_path, pairs):
    done = play(tmp_path / "run", pairs, settings={"lora_rank": 2})
    assert (done.checkpoint / "adapter_model.safetensors").exists()
    assert not (done.checkpoint / "model.safetensors").exists()
    assert done.summary["step_zero_log_ratio_per_token"] < 1e-5
