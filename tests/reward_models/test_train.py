"""Training of reward models: cycles, folders that others read, padding, labels, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from equipoise import oracles
from equipoise.cli.app import main
from equipoise.data.errors import DataError
from equipoise.data.reading.read import read
from equipoise.models.errors import ModelError
from equipoise.oracles.models.reward import PreferenceOracle, load_oracle
from equipoise.oracles.protocol import OracleError
from equipoise.policy.loading import Lora
from equipoise.reward_models.fit import Fitting, Remedies, fit
from equipoise.reward_models.head import Head
from equipoise.reward_models.measure import held_out
from equipoise.reward_models.pairs import Labels, labelled
from equipoise.reward_models.read import outputs, pair_logits
from equipoise.reward_models.start import begin
from equipoise.reward_models.train import parts, train
from equipoise.run.session import align
from equipoise.worlds.text.folder.row_files import load_rows
from reward_models.tiny import CYCLE, GAME, cyclic_rows, decoder, encoder, written

PROMPTS = list(GAME.prompts)
FAST = Fitting(lr=3e-3, epochs=1, batch=4)


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("decoder"))


@pytest.fixture(scope="module")
def cycle(tmp_path_factory):
    return written(tmp_path_factory.mktemp("data") / "cycle.jsonl", cyclic_rows())


@pytest.fixture(scope="module")
def folders(body, cycle, tmp_path_factory):
    """A trained folder of each kind."""
    root = tmp_path_factory.mktemp("trained")
    heads = {
        "bt": Head(),
        "gpm": Head(kind="gpm", dimension=4),
        "pair": Head(kind="pair"),
    }
    return {
        name: train(body, read(cycle), root / name, head=head, fitting=FAST, seed=1).folder
        for name, head in heads.items()
    }


def plain_prob(folder, kind, prompt, a, b):
    """P(a beats b) by plain transformers, one text at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def out(text):
        with torch.no_grad():
            return model(**tokenizer(text, return_tensors="pt")).logits[0].double()

    if kind == "bt":
        # a tokenizer of words knows no word across the seam, so that a space stands there
        return float(torch.sigmoid(out(f"{prompt} {a}") - out(f"{prompt} {b}")))
    if kind == "pair":
        forms = [f"[CONTEXT] {prompt}\n[A] {x}\n[B] {y}\n[BETTER]" for x, y in ((a, b), (b, a))]
        return float((torch.sigmoid(out(forms[0])) + 1 - torch.sigmoid(out(forms[1]))) / 2)
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    state = model.model(input_ids=ids).last_hidden_state[0, -1].detach()
    scales = 2 * torch.softmax(
        load_file(folder / "prompt_scales.safetensors")["linear.weight"] @ state / 4, dim=0
    )
    v, w = out(f"{prompt} {a}"), out(f"{prompt} {b}")
    planes = torch.stack([v[0] * w[1] - v[1] * w[0], v[2] * w[3] - v[3] * w[2]])
    return float(torch.sigmoid((scales.double() * planes).sum() / 0.1))


@pytest.mark.parametrize("kind", ["bt", "gpm", "pair"])
def test_a_saved_folder_judges_as_plain_transformers_reads_it(folders, kind):
    oracle = oracles.load(str(folders[kind]))
    found = oracle.compare(PROMPTS[:3], CYCLE, CYCLE[::-1])
    expected = [
        plain_prob(folders[kind], kind, p, a, b)
        for p, a, b in zip(PROMPTS[:3], CYCLE, CYCLE[::-1], strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, abs=2e-5)
    config = json.loads((folders[kind] / "config.json").read_text())
    assert ("equipoise" in config) == (kind != "bt")


@pytest.mark.parametrize("kind", ["bt", "gpm", "pair"])
def test_padding_changes_nothing(folders, kind):
    loaded = load_oracle(folders[kind]).reading.loaded
    texts = [tuple(loaded.texts.answer(PROMPTS[0], text)) for text in (CYCLE[0], " ".join(CYCLE))]
    together, alone = outputs(loaded.model, texts, 10_000), outputs(loaded.model, texts, 1)
    assert len(texts[0]) < len(texts[1]) and torch.allclose(together, alone, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", ["bt", "gpm", "pair"])
def test_half_precision_is_near_and_its_last_layer_is_not_rounded(folders, kind):
    whole, half = (load_oracle(folders[kind], dtype=dtype) for dtype in ("float32", "bfloat16"))
    first, second = (oracle.compare(PROMPTS[:3], CYCLE, CYCLE[::-1]) for oracle in (whole, half))
    assert torch.allclose(first, second, atol=0.05) and not torch.equal(first, second)
    loaded = half.reading.loaded
    values = outputs(loaded.model, [tuple(loaded.texts.answer(PROMPTS[0], CYCLE[0]))], 1)
    assert not torch.equal(values, values.bfloat16().double())
    assert whole.fingerprint != half.fingerprint


def test_the_room_of_two_responses_needs_no_chat_template(folders):
    oracle = load_oracle(folders["pair"])
    texts = oracle.reading.loaded.texts
    texts.tokenizer.chat_template = None
    turns = [[{"role": "user", "content": PROMPTS[0]}]]
    assert oracle.room(turns) == (len(texts.pair(turns[0], "", "")), 128)
    assert oracle.compare(turns, ["tea " * 200], ["tea"]).isnan().all()
    assert "accepts 128 tokens" in next(iter(oracle.account.reasons)) and oracle.account.failed == 1


def test_a_response_is_embedded_once_for_all_comparisons(folders):
    oracle = load_oracle(folders["gpm"])
    assert isinstance(oracle, PreferenceOracle)
    rows = []
    model = oracle.reading.loaded.model
    whole = model.read
    model.read = lambda ids, mask, **how: rows.append(len(ids)) or whole(ids, mask, **how)
    matrix = oracle.matrix(PROMPTS[:2], [CYCLE, CYCLE[::-1]])
    assert sum(rows) == 2 * 3 + 2  # responses, and the prompts alone
    assert torch.allclose(matrix + matrix.transpose(1, 2), torch.ones(2, 3, 3).double())
    single = oracle.compare([PROMPTS[1]] * 3, CYCLE[::-1], [CYCLE[2]] * 3)
    assert torch.allclose(matrix[1, :, 0], single, atol=1e-5)


@pytest.mark.slow
def test_a_cycle_is_learnt_by_a_general_preference_and_not_by_bradley_terry(body, tmp_path):
    accuracy, cycle = {}, written(tmp_path / "rows.jsonl", cyclic_rows(3))
    for kind, head in {"gpm": Head(kind="gpm", dimension=2, temperature=1.0), "bt": Head()}.items():
        start = begin(body, head, seed=0)
        pairs = labelled(read(cycle), start.texts, head)
        fit(start.model, pairs, fitting=Fitting(lr=1e-2, epochs=30, batch=3, schedule="constant"), seed=0)
        logits = pair_logits(start.model, pairs, 4096)[:, 0]
        accuracy[kind] = float((logits > 0).double().mean())
    assert accuracy["gpm"] > 0.95 and accuracy["bt"] <= 2 / 3


def test_the_same_seed_trains_the_same_bytes_and_another_one_others(body, cycle, tmp_path):
    weights = [
        (
            train(body, read(cycle), tmp_path / str(i), head=Head(), fitting=FAST, seed=s).folder
            / "model.safetensors"
        ).read_bytes()
        for i, s in enumerate((1, 1, 2))
    ]
    assert weights[0] == weights[1] != weights[2]


def test_a_step_is_the_same_in_one_forward_pass_or_in_many(body, cycle):
    models = []
    for tokens in (20, 100_000):
        start = begin(body, Head(kind="gpm", dimension=4), seed=0)
        pairs = labelled(read(cycle), start.texts, start.model.head)
        fit(
            start.model,
            pairs,
            fitting=Fitting(lr=1e-2, batch=12, tokens=tokens, schedule="constant", eps=1.0),
            seed=0,
        )
        models.append(start.model)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.allclose(one, other, atol=2e-5)


def test_lora_is_merged_into_a_folder_of_its_own(body, cycle, tmp_path):
    lora = Lora(rank=2)
    folder = train(body, read(cycle), tmp_path / "lora", head=Head(), fitting=FAST, lora=lora).folder
    assert not list(folder.glob("adapter*"))
    found = oracles.load(str(folder)).compare(PROMPTS[:3], CYCLE, CYCLE[::-1])
    assert found.tolist() == pytest.approx(
        [plain_prob(folder, "bt", p, a, b) for p, a, b in zip(PROMPTS[:3], CYCLE, CYCLE[::-1], strict=True)],
        abs=2e-5,
    )
    start = begin(body, Head(), lora=lora)
    names = [name for name, p in start.model.named_parameters() if p.requires_grad]
    assert names and all("lora_" in name or "score" in name for name in names)


def test_an_encoder_is_trained_and_continued(cycle, tmp_path):
    start = encoder(tmp_path / "encoder")
    first = train(start, read(cycle), tmp_path / "first", head=Head(), fitting=FAST).folder
    again = train(first, read(cycle), tmp_path / "again", head=Head(), fitting=FAST).folder
    assert bool(oracles.load(str(again)).score(PROMPTS[:3], CYCLE).isfinite().all())
    before = json.loads((again / "metrics.jsonl").read_text().splitlines()[0])["held_out"]["log_loss"][
        "value"
    ]
    after = json.loads((first / "metrics.jsonl").read_text().splitlines()[-1])["held_out"]["log_loss"][
        "value"
    ]
    assert before == pytest.approx(after, abs=1e-6)  # what was trained is what is trained further
    with pytest.raises(ModelError, match="a reward model with another head"):
        begin(first, Head(kind="gpm"))


def test_attributes_have_labels_of_their_own(body, tmp_path):
    rows = [
        {
            "prompt": p,
            "chosen": CYCLE[0],
            "rejected": CYCLE[1],
            "kind": 0.75,
            "short_chosen": 1,
            "short_rejected": 3,
        }
        for p in PROMPTS[:6]
    ]
    del rows[0]["kind"]
    head = Head(attributes=("reward", "kind", "short"), weights=(0.5, 2.0, -1.0))
    data = written(tmp_path / "rows.jsonl", rows)
    start = begin(body, head)
    pairs = labelled(read(data), start.texts, head)
    assert pairs[1].prob == (1.0, 0.75, 0.0) and math.isnan(pairs[0].prob[1])
    result = train(body, read(data), tmp_path / "out", head=head, fitting=FAST, held_out_share=0.3)
    assert set(result.figures["attributes"]) == {"reward", "kind", "short"}
    oracle = load_oracle(tmp_path / "out")
    each = oracle.scores(PROMPTS[:3], CYCLE)
    assert torch.allclose(oracle.score(PROMPTS[:3], CYCLE), each @ torch.tensor([0.5, 2.0, -1.0]).double())
    with pytest.raises(DataError, match="no pair has a label of the attribute 'honest'"):
        parts(begin(body, Head(attributes=("reward", "honest"))), read(data))


# noise --------------------------------------------------------------------------------------------


def test_remedies_act_on_pairs_by_their_ids(body, cycle):
    start = begin(body, Head())
    pairs = labelled(read(cycle), start.texts, start.model.head, Labels(margins="data"))
    remedies = Remedies(
        flips={pairs[0].id}, margins={pairs[0].id: 0.5, pairs[1].id: -0.25}, smoothing={pairs[2].id: 0.1}
    )
    made = remedies.of(pairs)
    assert made[0].prob == (0.0,) and made[0].margin == 0.5 and made[1].margin == -0.25
    assert pairs[0].flipped().flipped() == pairs[0]
    assert [remedies.smoothing_of(pair) for pair in pairs[:3]] == [0.0, 0.0, 0.1]
    with pytest.raises(ValueError, match="no pair has the id 'nobody'"):
        Remedies(flips={"nobody"}).of(pairs)


def test_flipped_labels_are_learnt_as_flipped(body, tmp_path):
    rows = [
        {"prompt": p, "chosen": CYCLE[0], "rejected": CYCLE[1], "id": f"r{i}"}
        for i, p in enumerate(PROMPTS[:8])
    ]
    start = begin(body, Head())
    pairs = labelled(read(written(tmp_path / "rows.jsonl", rows)), start.texts, start.model.head)
    fitting = Fitting(lr=1e-2, epochs=5, batch=8, schedule="constant")
    fit(start.model, pairs, fitting=fitting, seed=0, remedies=Remedies(flips={pair.id for pair in pairs}))
    assert held_out(start.model, pairs)["accuracy"]["value"] == 0.0


def test_an_extra_loss_and_a_context_take_part_in_every_step(body, cycle):
    start = begin(body, Head(), seed=0)
    pairs = labelled(read(cycle), start.texts, start.model.head)
    seen, entered = [], []

    def small(model, batch):
        seen.append((len(batch.pairs), batch.read.states.shape[1]))
        return 100 * (batch.read.values[batch.first] ** 2 + batch.read.values[batch.second] ** 2).sum(1)

    @contextmanager
    def within(model, step):
        entered.append(step)
        yield

    remedies = Remedies(extra=small, within=within)
    fit(
        start.model,
        pairs,
        fitting=Fitting(lr=1e-3, batch=12, epochs=10, schedule="constant"),
        seed=0,
        remedies=remedies,
    )
    assert sum(n for n, _ in seen) == 10 * len(pairs) and {d for _, d in seen} == {16}
    assert entered == list(range(20))
    values = outputs(start.model, [pair.tokens[0] for pair in pairs], 4096)
    assert float(values.abs().max()) < 0.05


# what is refused ----------------------------------------------------------------------------------


def test_rows_that_are_too_long_are_in_the_ledger(body, tmp_path):
    rows = [*cyclic_rows(4), {"prompt": PROMPTS[5], "chosen": "tea " * 200, "rejected": CYCLE[0]}]
    result = train(
        body, read(written(tmp_path / "rows.jsonl", rows)), tmp_path / "out", head=Head(), fitting=FAST
    )
    assert result.ledger["read"] == 13 and result.ledger["refused"] == {"the model cannot read it": 1}
    assert (tmp_path / "out" / "ledger.json").exists()


@pytest.mark.parametrize(
    ("section", "what"),
    [
        ({"kind": "gpm", "dimension": 3}, "even number of coordinates"),
        ({"kind": "magic"}, "kind must be one of"),
        ({"kind": "bt", "attributes": ["a", "a"]}, "names of their own"),
        ({"kind": "bt", "colour": 1}, "must hold only"),
        ({"kind": "gpm", "dimension": 8}, "its head has 4 outputs"),
        ({"kind": "gpm", "dimension": True}, "cannot be True"),
        ({"kind": "gpm", "dimension": 4, "temperature": -1}, "must be positive"),
        ([], "must hold only"),
    ],
)
def test_a_section_that_cannot_be_is_a_sentence(folders, tmp_path, section, what):
    folder = tmp_path / "copy"
    shutil.copytree(folders["gpm"], folder)
    (folder / "sha256sums.txt").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"equipoise": section}))
    with pytest.raises(OracleError, match=what):
        oracles.load(str(folder))


def test_a_flipped_bit_is_seen(folders, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(folders["gpm"], folder)
    file = folder / "prompt_scales.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(OracleError, match="has changed since it was written"):
        oracles.load(str(folder))


def test_an_existing_folder_and_a_failed_training_leave_things_as_they_were(body, cycle, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match="exists"):
        train(body, read(cycle), tmp_path / "out", head=Head(), fitting=FAST)

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(body, read(cycle), tmp_path / "new", head=Head(), fitting=FAST, report=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_command(body, cycle, tmp_path, capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["oracle", "train", *map(str, arguments)])
        return end.value.code, capsys.readouterr()

    about = ("--model", body, "--data", cycle)
    code, said = run(
        "gpm", *about, "--out", tmp_path / "gpm", "--set", "dimension=2", "lr=3e-3", "batch=8", "--json"
    )
    assert code == 0, said.err
    assert json.loads(said.out)["held_out"]["pairs"] > 0
    code, said = run("bt", *about, "--out", tmp_path / "bt", "--set", "batch=10000")
    assert code == 0 and "warning  1 optimizer step hardly" in said.out + said.err
    assert oracles.load(str(tmp_path / "gpm")).compare(PROMPTS[:1], CYCLE[:1], CYCLE[1:2]).shape == (1,)
    for arguments, says in (
        (("bt", *about, "--out", tmp_path / "gpm"), "exists"),
        (
            ("bt", *about, "--out", tmp_path / "x", "--set", "dimension=2"),
            "do not apply to a head of kind bt",
        ),
        (("bt", *about, "--out", tmp_path / "x", "--set", "epochs=none"), "epochs"),
        (("bt", "--model", body, "--out", tmp_path / "x"), "give --data"),
        (("bt", *about, "--out", tmp_path / "x", "--set", "head.size=2"), "unknown setting"),
        (
            ("bt", *about, "--out", tmp_path / "x", "--set", "lr=1e30", "batch=2", "epochs=3"),
            "error: the loss is not finite at step",
        ),
    ):
        code, said = run(*arguments)
        assert code == 2 and says in said.err, said.err
        assert not (tmp_path / "x").exists()


def test_gpo_is_played_with_a_trained_general_preference_model(folders, tmp_path):
    """Best and worst of five by the model's score, paid with their mean scores, each response's own 0 among them."""
    settings = {
        "play.rounds": 1,
        "play.samples": 5,
        "play.prompts": 3,
        "train.epochs": 1,
        "evaluate.samples": 1,
    }
    align("gpo", oracle=folders["gpm"], out=tmp_path, quiet=True, settings=settings)
    judged = load_rows(tmp_path / "rounds" / "001" / "judging.parquet")
    written = load_rows(tmp_path / "rounds" / "001" / "sampling.parquet")
    model = oracles.load(str(folders["gpm"]))
    for pair, prompt, rewards in zip(judged.responses, judged.prompts, judged.rewards, strict=True):
        row = next(k for k, p in enumerate(written.prompts) if p.ids == prompt.ids)
        texts = [response.text for response in written.responses[row]]
        matrix = [
            [0.5 if a is b else float(model.compare([prompt.context], [a], [b])[0]) for b in texts]
            for a in texts
        ]
        scores = [sum(math.log(p / (1 - p)) for p in line) / 5 for line in matrix]
        assert rewards.tolist() == pytest.approx([max(scores), min(scores)], abs=1e-5)
        assert scores[texts.index(pair[0].text)] == pytest.approx(max(scores), abs=1e-5)
