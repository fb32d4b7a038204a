"""Duplicates, contradictions, near-equal responses, length, noise: by hand, and the noise by simulation."""

from __future__ import annotations

import random

import pytest

from safetyvalve.data import Comparison, Message, Place, PreferenceExample, Response
from safetyvalve.data.quality import label_noise, quality
from safetyvalve.data.shares import share_of


def pair(
    chosen: str, rejected: str, *, prompt: str = "Q", row: int, extra: tuple[tuple[int, int], ...] = ()
) -> PreferenceExample:
    return PreferenceExample(
        prompt=(Message(role="user", content=prompt),),
        responses=(Response(content=chosen), Response(content=rejected)),
        comparisons=(Comparison(winner=0, loser=1), *(Comparison(winner=w, loser=x) for w, x in extra)),
        place=Place("d", row),
    )


def rows(places: list[Place]) -> list[int]:
    return [p.row for p in places]


def test_duplicates_and_contradictions() -> None:
    data = [
        pair("a", "bb", row=1),
        pair("a", "bb", row=2),  # a copy
        pair("bb", "a", row=3),  # the other way round
        pair("a", "bb", prompt="other", row=4),  # another prompt: nothing to do with it
        pair("c", "d", row=5, extra=((1, 0),)),  # both ways in one row
    ]
    q = quality(data)
    assert [rows(g) for g in q.exact_duplicates] == [[1, 2]]
    assert [rows(g) for g in q.same_responses] == [[1, 3]]
    assert [(rows(c.places), c.wins, c.losses, c.within_row) for c in q.contradictions] == [
        ([1, 2, 3], 2, 1, False),
        ([5], 1, 1, True),
    ]
    text = "\n".join(q.lines())
    assert "2 pairs of responses, 1 of them within a row: rows 1, 2, 3; row 5" in text


def test_responses_that_hardly_differ() -> None:
    long = "これは長い回答です。" * 10
    data = [
        pair("ＡＢＣ です", "abc  です", row=1),
        pair(long, long + "！", row=2),
        pair("はい", "いいえ", row=3),
        pair("...", "はい", row=4),
    ]
    q = quality(data)
    assert rows(q.folded_equal) == [1]
    # 100 and 101 characters, one insertion apart.
    assert [(n.place.row, n.similarity) for n in q.near_equal] == [(2, pytest.approx(1 - 1 / 201))]
    assert rows(q.wordless) == [4]


def test_the_longer_response() -> None:
    data = [pair("aaa", "b", row=1), pair("a", "bbb", row=2), pair("aa", "bb", row=3), pair("aaaa", "b", row=4)]
    won = quality(data).longer_won
    assert won is not None
    assert (won.share, won.n) == (pytest.approx(2 / 3), 3)
    equal = quality([pair("a", "b", row=1)])
    assert equal.longer_won is None
    assert "  length bias: no two compared responses differ in length, so it cannot be told" in equal.lines()


def test_comparisons_of_a_row_are_one_unit() -> None:
    many = PreferenceExample(
        prompt=(Message(role="user", content="Q"),),
        responses=tuple(Response(content="x" * n) for n in (1, 2, 3)),
        comparisons=tuple(Comparison(winner=w, loser=x) for w, x in ((2, 1), (2, 0), (0, 1))),
    )
    won = quality([many]).longer_won
    assert won is not None
    assert (won.share, won.n) == (pytest.approx(2 / 3), 1)


def test_wilson_by_hand() -> None:
    """8 of 10: (0.8 + 1.9208 / 10 -+ 1.96 sqrt(0.16 / 10 + 3.8416 / 400)) / 1.38416."""
    share = share_of(8, 10)
    assert (share.low, share.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert share_of(0, 5).low == 0
    assert share_of(5, 5).high == 1


class TestNoise:
    def test_none_without_repeats(self) -> None:
        q = quality([pair("a", "b", row=1), pair("c", "d", row=2)])
        assert q.label_noise is None
        assert "cannot be estimated" in "\n".join(q.lines())

    def test_by_hand(self) -> None:
        """Labels 1 1 0 disagree in 2 of 3 pairs, 1 1 in none: d = 1/3, e = (1 - sqrt(1/3)) / 2."""
        noise = label_noise([[True, True, False], [True, True], [False]])
        assert noise is not None
        assert (noise.pairs, noise.labels) == (2, 5)
        assert noise.disagreement.share == pytest.approx(1 / 3)
        assert noise.error_rate.share == pytest.approx((1 - 3**-0.5) / 2)

    @pytest.mark.parametrize("error", [0.0, 0.1, 0.3])
    def test_finds_the_rate_that_made_the_labels(self, error: float) -> None:
        draw = random.Random(1)
        inside = 0
        for _ in range(40):
            repeats = [[draw.random() >= error for _ in range(draw.choice((2, 3, 5)))] for _ in range(200)]
            noise = label_noise(repeats)
            assert noise is not None
            inside += noise.error_rate.low <= error <= noise.error_rate.high
            assert noise.error_rate.share == pytest.approx(error, abs=0.1)
        assert inside >= 36

    def test_more_disagreement_than_chance_is_one_half(self) -> None:
        noise = label_noise([[True, False]] * 20)
        assert noise is not None
        assert noise.error_rate.share == noise.error_rate.high == 0.5

    def test_from_rows(self) -> None:
        """Contradicting rows of the same texts, in either order of the responses."""
        noise = quality([pair("a", "b", row=1), pair("b", "a", row=2), pair("a", "b", row=3)]).label_noise
        assert noise is not None
        assert (noise.pairs, noise.labels) == (1, 3)
        assert noise.disagreement.share == pytest.approx(2 / 3)
