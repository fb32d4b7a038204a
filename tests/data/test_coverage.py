"""Coverage of serving prompts, with vectors whose distances are known; and files of such prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from safetyvalve.data import Comparison, Encoded, Message, Place, PreferenceExample, Response, load_serving_prompts
from safetyvalve.data.coverage import nearest, prompt_coverage, prompt_text, within_distances
from safetyvalve.errors import DataError


class AngleEncoder:
    """A text ``... 30`` becomes the unit vector at 30 degrees."""

    name = "angles"

    def __init__(self, *, unknown: float = 0.0, latin_only: bool = False) -> None:
        self.unknown, self.latin_only = unknown, latin_only

    def __call__(self, texts: Sequence[str]) -> Encoded:
        angles = np.radians([float(text.split()[-1]) for text in texts])
        return Encoded(np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32), self.unknown, 0)


def example(angle: float, opening: str, row: int = 1) -> PreferenceExample:
    return PreferenceExample(
        prompt=(
            Message(role="system", content="s"),
            Message(role="user", content=opening),
            Message(role="assistant", content="a"),
            Message(role="user", content=f"at {angle}"),
        ),
        responses=(Response(content="a"), Response(content="b")),
        comparisons=(Comparison(winner=0, loser=1),),
        place=Place("d", row),
    )


def serve(folder: Path, *lines: str) -> Path:
    file = folder / "serve.txt"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def degrees(angle: float) -> float:
    return float(1 - np.cos(np.radians(angle)))


# Conversations one degree apart; each begins with another turn.
DATA = [example(angle, f"opening {angle}", row) for row, angle in enumerate(range(40), 1)]


def test_a_prompt_is_uncovered_beyond_what_the_data_has_among_itself(tmp_path: Path) -> None:
    served = load_serving_prompts(serve(tmp_path, "x 10.5", "x 20", "x 41.5", "x 120"))
    c = prompt_coverage(served, DATA, AngleEncoder())
    assert c.threshold == pytest.approx(degrees(1), abs=1e-6)
    assert (c.uncovered.share, c.uncovered.n) == (0.5, 4)
    assert [s.place.row for s in c.worst] == [4, 3, 1, 2]
    assert c.worst[0].distance == pytest.approx(degrees(81), abs=1e-6)
    assert [n.place.row for n in c.worst[0].nearest] == [40, 39, 38]
    assert (c.serving_prompts, c.data_prompts, c.baseline_prompts) == (4, 40, 40)
    assert sum(c.serving_counts) == 4
    assert sum(c.baseline_counts) == 40
    assert c.warnings == ["few"]
    text = "\n".join(c.lines())
    assert "uncovered 50.0% (95% interval 15.0% to 85.0%, n = 4)" in text


def test_the_datas_own_prompts_are_mostly_covered(tmp_path: Path) -> None:
    """Held out from where the data comes from, about 5% is uncovered: that is what the threshold means."""
    draw = np.random.default_rng(0)
    angles = draw.uniform(0, 90, 700)
    data = [example(a, f"o {a}") for a in angles[:500].tolist()]
    served = load_serving_prompts(serve(tmp_path, *(f"x {a}" for a in angles[500:].tolist())))
    share = prompt_coverage(served, data, AngleEncoder()).uncovered
    assert share.low < 0.05 < share.high


def test_a_conversation_is_no_neighbour_of_itself() -> None:
    vectors = AngleEncoder()(["x 0", "x 1", "x 30", "x 31"]).vectors
    assert within_distances(vectors, ["a", "a", "b", "b"]) == pytest.approx(
        [degrees(30), degrees(29), degrees(29), degrees(30)], abs=1e-6
    )
    assert within_distances(vectors, list("abcd")) == pytest.approx([degrees(1)] * 4, abs=1e-6)


def test_nearest_equals_brute_force_in_blocks() -> None:
    draw = np.random.default_rng(0)
    queries, base = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (draw.normal(size=(n, 8)) for n in (37, 50)))
    found = nearest(queries.astype(np.float32), base.astype(np.float32), k=4, block=5)
    distances = 1 - queries @ base.T
    assert (found.indices == np.argsort(distances, 1)[:, :4]).all()
    assert np.allclose(found.distances, np.sort(distances, 1)[:, :4], atol=1e-6)


def test_cautions(tmp_path: Path) -> None:
    served = load_serving_prompts(serve(tmp_path, "東京の天気は 10"))
    c = prompt_coverage(served, DATA, AngleEncoder(unknown=0.2, latin_only=True))
    assert c.warnings == ["unknown", "script", "few"]
    assert c.other_script == {"serving": 1.0, "data": 0.0}
    assert "does not know 20.0% of the tokens" in "\n".join(c.lines())
    assert prompt_coverage(served, DATA, AngleEncoder()).warnings == ["few"]


def test_texts_shown_hide_addresses(tmp_path: Path) -> None:
    served = load_serving_prompts(serve(tmp_path, "mail taro@example.com 90"))
    assert "taro@" not in prompt_coverage(served, DATA, AngleEncoder()).model_dump_json()


def test_one_conversation_gives_no_baseline(tmp_path: Path) -> None:
    served = load_serving_prompts(serve(tmp_path, "x 1"))
    with pytest.raises(DataError, match="fewer than 2 there is nothing to compare"):
        prompt_coverage(served, [example(1, "same"), example(2, "same")], AngleEncoder())


def test_system_turns_are_not_compared() -> None:
    assert prompt_text(DATA[0].prompt) == "opening 0\na\nat 0"


class TestFiles:
    def test_plain_text(self, tmp_path: Path) -> None:
        found = load_serving_prompts(serve(tmp_path, "\ufeffこんにちは", "", " two "))
        assert [(p.prompt[0].content, p.place.row) for p in found] == [("こんにちは", 1), ("two", 3)]

    def test_jsonl(self, tmp_path: Path) -> None:
        turns = '[{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]'
        found = load_serving_prompts(serve(tmp_path, '{"prompt": "質問", "id": 1}', f'{{"prompt": {turns}}}'))
        assert [[m.role for m in p.prompt] for p in found] == [["user"], ["system", "user"]]

    @pytest.mark.parametrize(
        ("lines", "fragment"),
        [
            (('{"prompt": "a"}', '{"text": "b"}'), r"serve\.txt:2, field 'prompt': has prompt None"),
            (('{"prompt": "a"}', '{"prompt": [{"role": "boss", "content": "b"}]}'), r"serve\.txt:2.*boss"),
            (('{"prompt": "a"}', "plain"), r"serve\.txt:2: is not JSON"),
            (("",), "has no prompts"),
        ],
    )
    def test_refused(self, tmp_path: Path, lines: tuple[str, ...], fragment: str) -> None:
        with pytest.raises(DataError, match=fragment):
            load_serving_prompts(serve(tmp_path, *lines))

    def test_missing_and_not_utf8(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot be read"):
            load_serving_prompts(tmp_path / "none.txt")
        (tmp_path / "sjis.txt").write_bytes("質問".encode("cp932"))
        with pytest.raises(DataError, match=r"sjis\.txt:1.*not UTF-8"):
            load_serving_prompts(tmp_path / "sjis.txt")
