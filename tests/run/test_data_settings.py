"""Data settings of a run: files with settings of their own, evaluation files, data that the method does not read."""

from __future__ import annotations

import json

import pytest

from equipoise.data.errors import DataError
from equipoise.playground import LanguageGame, model_path
from equipoise.run.config import ConfigError, resolve
from equipoise.run.inputs import Hasher, of_files
from equipoise.run.materials import gather


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


PROMPTS = LanguageGame().prompts
YES, NO = "Gladly, a large hot black tea.", "Fine, a small iced mint tea."


def pairs(count, start=0):
    return [
        {"prompt": PROMPTS[n], "chosen": f" {YES}", "rejected": f" {NO}"} for n in range(start, start + count)
    ]


def materials(tmp_path, method="dpo", **settings):
    named = {"model.path": str(model_path())} | {f"data.{name}": value for name, value in settings.items()}
    return gather(resolve(method, named), tmp_path)


@pytest.mark.parametrize(
    "form", ["{path}", ["{path}"], {"path": "{path}"}, [{"path": "{path}", "weight": 1}]]
)
def test_one_file_is_a_string_a_mapping_or_a_list(form, tmp_path):
    path = written(tmp_path / "a.jsonl", pairs(6))
    given = json.loads(json.dumps(form).replace("{path}", path))
    made = materials(tmp_path, path=given)
    assert len(made.dataset) == 6
    config = resolve("dpo", {"model.path": str(model_path()), "data.path": given})
    assert list(of_files(config, Hasher())["data"]) == [path]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([{"path": "x", "formt": "y"}], "unknown setting `formt` of a data file.*did you mean `format`"),
        ([{"path": "x", "weight": -1}], "`weight` must be above 0"),
        ([3], "a path or a mapping with `path`, got 3"),
    ],
)
def test_a_wrong_file_is_a_wrong_setting(given, says):
    with pytest.raises(ConfigError, match=f"(?s)data.path: .*{says}"):
        resolve("dpo", {"model.path": "m", "data.path": given})


def test_evaluation_files_are_held_out_whole_and_everything_else_is_trained_on(tmp_path):
    train, held = written(tmp_path / "a.jsonl", pairs(6)), written(tmp_path / "b.jsonl", pairs(3, 10))
    made = materials(tmp_path, path=train, evaluation=held)
    assert (len(made.pairs), len(made.held_out), len(made.unseen)) == (6, 3, 3)
    assert {row.context for row in made.unseen} == set(PROMPTS[10:13])
    assert any(note.startswith("evaluation files: 3 rows read, 3 used") for note in made.dataset.notes)


def test_a_prompt_in_both_is_refused_unless_allowed(tmp_path):
    train, held = written(tmp_path / "a.jsonl", pairs(6)), written(tmp_path / "b.jsonl", pairs(3, 5))
    with pytest.raises(DataError, match="1 prompts are in the training and in the evaluation files"):
        materials(tmp_path, path=train, evaluation=held)
    assert len(materials(tmp_path, path=train, evaluation=held, allow_overlap=True).held_out) == 3


def test_one_prompt_points_to_evaluation_files_that_work(tmp_path):
    train = written(tmp_path / "a.jsonl", [pairs(1)[0], pairs(1)[0] | {"weight": 2.0}])
    with pytest.raises(DataError, match=r"`data.evaluation`"):
        materials(tmp_path, path=train)
    made = materials(tmp_path, path=train, evaluation=written(tmp_path / "b.jsonl", pairs(2, 1)))
    assert (len(made.pairs), len(made.held_out)) == (2, 2)


def test_data_of_another_kind_names_the_methods_that_read_it(tmp_path):
    unpaired = [{"prompt": PROMPTS[n], "completion": YES, "label": n % 2} for n in range(4)]
    with pytest.raises(ConfigError, match="the data contain unpaired answers, which these methods read: kto"):
        materials(tmp_path, path=written(tmp_path / "a.jsonl", unpaired))
    lists = [{"prompt": PROMPTS[n], "responses": [YES, NO], "rewards": [1, 0]} for n in range(4)]
    with pytest.raises(
        ConfigError, match=r"the data contain scored lists, which these methods read: .*plackett_luce"
    ):
        materials(tmp_path, "kto", path=written(tmp_path / "b.jsonl", lists))
    prompts = [{"prompt": PROMPTS[n]} for n in range(4)]
    with pytest.raises(ConfigError, match=r"the data contain prompts, which these methods read: .*inpo"):
        materials(tmp_path, path=written(tmp_path / "c.jsonl", prompts))


def test_ties_are_left_out_where_the_better_answer_is_imitated(tmp_path):
    rows = [row | {"prob": 0.5 if n < 2 else 1.0} for n, row in enumerate(pairs(6))]
    path = written(tmp_path / "a.jsonl", rows)
    assert len(materials(tmp_path, "sft", path=path).dataset) == 4
    made = materials(tmp_path, path=path)
    assert sorted([*made.pairs.prob, *made.held_out.prob]) == [0.5, 0.5, 1, 1, 1, 1]


def test_a_mixture_says_which_share_of_the_training_rows_each_file_has(tmp_path):
    large, small = (
        written(tmp_path / "a.jsonl", pairs(9)),
        written(tmp_path / "b.jsonl", pairs(3, 10)),
    )
    held = written(tmp_path / "c.jsonl", pairs(3, 20))
    shares = [{"path": large, "share": 1}, {"path": small, "share": 2}]
    made = materials(tmp_path, path=shares, evaluation=held, mixture="all_exhausted")
    assert (len(made.pairs), len(made.held_out)) == (27, 3)
    assert f"training rows by file: {large} 9 (33.3%), {small} 18 (66.7%)" in made.dataset.notes
    again = materials(tmp_path, path=shares, evaluation=held, mixture="all_exhausted")
    assert list(again.pairs.prompts) == list(made.pairs.prompts)


def test_a_mixture_without_shares_is_refused():
    with pytest.raises(ConfigError, match=r"mixture needs files with a share: \{path: FILE, share: 0.7\}"):
        resolve("dpo", {"model.path": "m", "data.path": "x.jsonl", "data.mixture": "all_exhausted"})
