"""What is saved is read back the same, for any text."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from safetyvalve.data import Comparison, Message, PreferenceExample, Response, load_preferences, save_preferences

# Every character a file can hold, with those that split lines or look like markup made likely.
CHARACTERS = st.one_of(st.characters(codec="utf-8"), st.sampled_from("あ漢ｶ\u2028\u0085\r\n\"',;\t{}[]\\"))
TEXTS = st.text(CHARACTERS, min_size=1, max_size=20).map(str.strip).filter(len)


@st.composite
def examples(draw: st.DrawFn) -> PreferenceExample:
    texts = draw(st.lists(TEXTS, min_size=2, max_size=4, unique=True))
    indices = st.integers(0, len(texts) - 1)
    pairs = draw(st.lists(st.tuples(indices, indices).filter(lambda p: p[0] != p[1]), min_size=1, max_size=4))
    return PreferenceExample(
        prompt=(*draw(st.sampled_from([(), (Message(role="system", content=" 短く。"),)])),
                Message(role="user", content=draw(TEXTS))),
        responses=tuple(Response(content=t) for t in texts),
        comparisons=tuple(
            Comparison(
                winner=w,
                loser=lo,
                weight=draw(st.floats(0.1, 10)),
                annotator=draw(st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)),
            )
            for w, lo in pairs
        ),
        baseline=tuple(Response(content=t) for t in draw(st.sampled_from([["基準"], ["一", "二"]]))),
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(examples(), min_size=1, max_size=4))
def test_round_trip(saved: list[PreferenceExample]) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "保存.jsonl"
        assert save_preferences(saved, file) == len(saved)
        loaded = load_preferences(file, baseline_column="baseline")
        assert [p.name for p in Path(folder).iterdir()] == [file.name]
    assert [e.model_dump() for e in loaded.examples] == [e.model_dump() for e in saved]
    assert [e.id for e in loaded.examples] == [e.id for e in saved]
    assert loaded.report.form == "comparisons"
