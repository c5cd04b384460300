"""Pictures of exact games."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

from equipoise.cli.games.play import play
from equipoise.report.games.figure import CORNERS, FLOOR, OTHERS, game_figure, in_plane, write_game_figure


def trace(gaps, tau_gaps=None, **more):
    return {
        "round": list(range(len(gaps))),
        "gap0": gaps,
        "gap_tau": tau_gaps or [None] * len(gaps),
    } | more


def result(**methods):
    return {"game": "g", "tau": None, "names": ["a", "b", "c"], "methods": methods}


def texts(axes):
    return [child.get_text() for child in axes.texts]


def test_all_methods_stand_side_by_side_with_their_names():
    figure = game_figure(result(one=trace([0.5, 0.1], [0.4, 0.01]), two=trace([0.5, 0.3])))
    (axes,) = figure.axes
    assert [len(line.get_xdata()) for line in axes.lines] == [2, 2, 2]
    assert sorted(texts(axes)) == ["one", "two"]
    assert len({line.get_color() for line in axes.lines}) == 2


def test_of_many_methods_each_has_a_panel_before_the_others():
    many = {f"m{i}": trace([0.5, 0.1 * (i + 1)], [0.4, 0.01]) for i in range(7)}
    figure = game_figure(result(**many) | {"tau": 0.1, "names": list("abcd")})
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(many)
    for axes, name in zip(figure.axes, many, strict=True):
        *others, plain, regularised = axes.lines
        assert {line.get_color() for line in others} == {OTHERS} and len(others) == 7
        assert list(plain.get_ydata()) == many[name]["gap0"]
        assert list(regularised.get_ydata()) == many[name]["gap_tau"]
        assert axes.get_ylim() == figure.axes[0].get_ylim()
    low, high = figure.axes[0].get_ylim()
    assert low < 0.01 and high > 0.7


def test_of_many_methods_each_has_its_path_beneath():
    many = {f"m{i}": trace([0.5], trajectory=[[0.2, 0.3, 0.5]]) for i in range(6)}
    figure = game_figure(result(**many) | {"nash": [[0.3, 0.2, 0.5]]})
    assert len(figure.axes) == 12
    rows = [axes.get_subplotspec().rowspan.start for axes in figure.axes]
    assert rows == [0, 1] * 3 + [2, 3] * 3


def test_a_batch_says_that_its_gaps_are_means():
    batch = result(m=trace([0.5])) | {"nash": [[1, 0, 0]] * 64}
    assert game_figure(batch).axes[0].get_title(loc="left") == "g, mean of 64 prompts"


@pytest.mark.parametrize("gaps", [[0.5, 0.0, -1e-17], [0.0], [0.0, 0.0]])
def test_zeros_and_rounding_are_drawn_at_the_floor(gaps):
    (axes,) = game_figure(result(m=trace(gaps))).axes
    drawn = axes.lines[0].get_ydata()
    assert min(drawn) == FLOOR
    low, high = axes.get_ylim()
    assert low < min(drawn) and high > max(drawn)


def test_a_path_through_the_simplex_has_a_start_an_end_and_a_nash():
    path = [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.4, 0.2, 0.4]]
    game = result(m=trace([0.5, 0.2, 0.1], trajectory=path)) | {"nash": [0.3, 0.2, 0.5]}
    _, simplex = game_figure(game).axes
    _, line, start, end, nash = simplex.lines
    assert np.allclose(np.column_stack(line.get_data()), in_plane(path))
    assert np.allclose([start.get_xdata()[0], start.get_ydata()[0]], in_plane(path[0]))
    assert np.allclose([end.get_xdata()[0], end.get_ydata()[0]], in_plane(path[-1]))
    assert np.allclose([nash.get_xdata()[0], nash.get_ydata()[0]], in_plane([0.3, 0.2, 0.5]))
    assert "Nash" in simplex.get_title(loc="left")
    without = game_figure(game | {"nash": None}).axes[1]
    assert len(without.lines) == 4 and "Nash" not in without.get_title(loc="left")


def test_only_three_responses_have_a_simplex():
    game = result(m=trace([0.5], trajectory=[[0.25] * 4])) | {"names": list("abcd")}
    assert len(game_figure(game).axes) == 1


def test_corners_and_centre_of_the_plane():
    assert np.allclose(in_plane(np.eye(3)), CORNERS)
    assert np.allclose(in_plane([1 / 3] * 3), CORNERS.mean(axis=0))


def test_untrusted_names_stay_text(tmp_path):
    hostile = result(**{"$\\frac{": trace([0.5, 0.1], trajectory=[[1, 0, 0], [0, 1, 0]])})
    write_game_figure(
        hostile | {"names": ["$x^{", "a\nb", "z" * 99], "game": "$\\bad" * 30}, tmp_path / "g.png"
    )
    assert imread(tmp_path / "g.png").shape[0] > 100


def test_what_the_command_plays_can_be_drawn(tmp_path):
    played = play("brps", ["inpo", "dpo"], 20, {"tau": 0.1}, None)
    for name in ("one.png", "two.png"):
        write_game_figure(played, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert not list(tmp_path.glob(".*"))
