"""Rows of each form, how a form is recognised, and what is dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from safetyvalve.data import Comparison, Message, PreferenceExample, load_preferences, parse_transcript
from safetyvalve.errors import DataError, UsageError
from tests.data.files import PAIR, assistant, user, write

CHAT = [{"role": "system", "content": "Be brief."}, user("こんにちは")]


def load_one(folder: Path, row: dict[str, Any], form: str) -> PreferenceExample:
    """The example of a row, recognised as the form it should be."""
    loaded = load_preferences(write(folder, [row]))
    assert loaded.report.form == form
    (example,) = loaded.examples
    return example


def reasons(folder: Path, rows: list[dict[str, Any]], **options: Any) -> list[tuple[int, str]]:
    return [(d.row, d.reason) for d in load_preferences(write(folder, rows), max_drop=1.0, **options).report.dropped]


def wins(example: PreferenceExample) -> set[tuple[int, int]]:
    return {(c.winner, c.loser) for c in example.comparisons}


class TestPair:
    def test_texts(self, tmp_path: Path) -> None:
        example = load_one(tmp_path, PAIR, "pair")
        assert example.prompt == (Message(role="user", content="Say hello."),)
        assert [r.content for r in example.responses] == ["Hello!", "No."]
        assert example.comparisons == (Comparison(winner=0, loser=1),)

    @pytest.mark.parametrize("chosen", ["はい。", [assistant("はい。")], [*CHAT, assistant("はい。")]])
    def test_messages(self, tmp_path: Path, chosen: Any) -> None:
        example = load_one(tmp_path, {"prompt": CHAT, "chosen": chosen, "rejected": "いいえ。"}, "pair")
        assert [m.role for m in example.prompt] == ["system", "user"]
        assert example.responses[0].content == "はい。"

    @pytest.mark.parametrize(("annotator", "kept"), [("田中", "田中"), (7, "7"), (None, None)])
    def test_annotator(self, tmp_path: Path, annotator: Any, kept: str | None) -> None:
        example = load_one(tmp_path, PAIR | {"annotator": annotator}, "pair")
        assert example.comparisons[0].annotator == kept
        assert example.id == load_one(tmp_path, PAIR, "pair").id

    def test_null_drops_the_row(self, tmp_path: Path) -> None:
        assert reasons(tmp_path, [PAIR, PAIR | {"chosen": None}]) == [(2, "chosen is null or an empty cell")]


class TestImplicit:
    ROW: ClassVar[dict[str, Any]] = {
        "chosen": [*CHAT, assistant("やあ"), user("元気？"), assistant("はい、元気です。")],
        "rejected": [*CHAT, assistant("やあ"), user("元気？"), assistant("はい、少し。")],
    }

    def test_prompt_is_every_turn_before_the_last(self, tmp_path: Path) -> None:
        """A search for the common beginning would move 'はい、' into the prompt."""
        example = load_one(tmp_path, self.ROW, "implicit")
        assert [m.role for m in example.prompt] == ["system", "user", "assistant", "user"]
        assert [r.content for r in example.responses] == ["はい、元気です。", "はい、少し。"]

    @pytest.mark.parametrize(
        ("rejected", "reason"),
        [
            ([user("別の質問"), assistant("はい")], "prompts of chosen and rejected differ"),
            ([*CHAT, user("終わり")], "rejected does not end with the assistant's turn"),
        ],
    )
    def test_dropped(self, tmp_path: Path, rejected: Any, reason: str) -> None:
        assert reasons(tmp_path, [self.ROW, self.ROW | {"rejected": rejected}]) == [(2, reason)]

    def test_an_answer_alone_is_refused(self, tmp_path: Path) -> None:
        row = {side: [assistant(side)] for side in ("chosen", "rejected")}
        with pytest.raises(DataError, match=r":1: field 'chosen': is one message, the answer"):
            load_preferences(write(tmp_path, [row]))


class TestTranscript:
    def test_split_at_the_last_assistant_turn(self) -> None:
        prompt, answer = parse_transcript("\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nAssistant: D\n\nstill D")
        assert [(m.role, m.content) for m in prompt] == [("user", "A"), ("assistant", "B"), ("user", "C")]
        assert answer == " D\n\nstill D"

    @pytest.mark.parametrize(
        "text",
        ["plain", "\n\nHuman: A", "\n\nHuman: A\n\nAssistant: B\n\nHuman: C", "lead\n\nHuman: A\n\nAssistant: B"],
    )
    def test_refused(self, text: str) -> None:
        with pytest.raises(DataError, match="turns opened by"):
            parse_transcript(text)

    def test_common_openings_stay_in_the_answers(self, tmp_path: Path) -> None:
        """A split by common prefix would eat 'I think'."""
        row = {s: f"\n\nHuman: Q\n\nAssistant: I think {s}" for s in ("chosen", "rejected")}
        example = load_one(tmp_path, row, "hh-transcript")
        assert [r.content for r in example.responses] == ["I think chosen", "I think rejected"]

    def test_dropped_and_counted(self, tmp_path: Path) -> None:
        good = {s: f"\n\nHuman: 質問\n\nAssistant: {s}" for s in ("chosen", "rejected")}
        bad = [
            {"rejected": "\n\nHuman: other\n\nAssistant: x"},
            {"rejected": "\n\nHuman: 質問\n\nAssistant: x\n\nHuman: 続き"},
            {"chosen": "\n\nHuman: 質問"},
            {"chosen": "\n\nHuman: 質問\n\nAssistant:"},
            {"chosen": ""},
        ]
        assert reasons(tmp_path, [good, *(good | b for b in bad)]) == [
            (2, "prompts of chosen and rejected differ"),
            (3, "rejected ends with the human's turn"),
            (4, "chosen ends with the human's turn"),
            (5, "chosen response is empty"),
            (6, "chosen is empty"),
        ]

    @pytest.mark.parametrize("prompt", ["A", "\n\nHuman: A\n\nAssistant:"])
    def test_whole_conversations_beside_a_prompt(self, tmp_path: Path, prompt: str) -> None:
        row = {s: f"\n\nHuman: A\n\nAssistant: {s}" for s in ("chosen", "rejected")}
        example = load_one(tmp_path, row | {"prompt": prompt}, "hh-transcript")
        assert example.id == load_one(tmp_path, row, "hh-transcript").id

    def test_prompt_apart(self, tmp_path: Path) -> None:
        """As some copies of hh-rlhf have it; taken for a pair, the turns would become one user turn."""
        row = {
            "prompt": "\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nAssistant:",
            "chosen": " よい",
            "rejected": " 悪い",
        }
        example = load_one(tmp_path, row, "hh-transcript")
        assert [m.content for m in example.prompt] == ["A", "B", "C"]
        assert [r.content for r in example.responses] == ["よい", "悪い"]


class TestUltraFeedback:
    ROW: ClassVar[dict[str, Any]] = {
        "prompt": "空は何色？",
        "prompt_id": "f0e1",
        "chosen": [user("空は何色？"), assistant("青です。")],
        "rejected": [user("空は何色？"), assistant("緑です。")],
        "messages": [user("空は何色？"), assistant("青です。")],
        "score_chosen": 8.0,
        "score_rejected": 6,
    }

    def test_binarized(self, tmp_path: Path) -> None:
        example = load_one(tmp_path, self.ROW, "ultrafeedback")
        assert example.prompt == (Message(role="user", content="空は何色？"),)
        assert [r.content for r in example.responses] == ["青です。", "緑です。"]

    def test_texts(self, tmp_path: Path) -> None:
        row = self.ROW | {"chosen": "青です。", "rejected": "緑です。"}
        assert load_one(tmp_path, row, "ultrafeedback").id == load_one(tmp_path, self.ROW, "ultrafeedback").id

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"score_rejected": 8}, "scores are tied"),
            ({"score_rejected": 9}, "rejected has the higher score"),
            ({"prompt": "海は何色？"}, "chosen does not begin with the prompt"),
            ({"chosen": [user("空は何色？"), assistant("")]}, "chosen response is empty"),
        ],
    )
    def test_dropped(self, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
        assert reasons(tmp_path, [self.ROW, self.ROW | change]) == [(2, reason)]

    def test_raw(self, tmp_path: Path) -> None:
        completions = [
            {"model": "a", "response": "青。", "overall_score": 7.5, "annotations": {}},
            {"model": "b", "response": "緑。", "overall_score": 3.0, "annotations": {}},
            {"model": "c", "response": "赤。", "overall_score": 3.0, "annotations": {}},
        ]
        example = load_one(tmp_path, {"instruction": "空は何色？", "completions": completions}, "ultrafeedback-raw")
        assert wins(example) == {(0, 1), (0, 2)}


class TestRanked:
    ROW: ClassVar[dict[str, Any]] = {"prompt": "一番は？", "responses": ["ろ", "い", "は"]}

    @pytest.mark.parametrize(
        ("field", "expected"),
        [
            ({"ranking": [1, 0, 2]}, {(1, 0), (1, 2), (0, 2)}),
            ({"ranks": [2, 1, 3]}, {(1, 0), (1, 2), (0, 2)}),
            ({"ranking": [2, [0, 1]]}, {(2, 0), (2, 1)}),
            ({"ranks": [2, 2, 1]}, {(2, 0), (2, 1)}),
            ({"ranks": [1, 1, 2]}, {(0, 2), (1, 2)}),
        ],
    )
    def test_better_beats_worse_and_ties_give_nothing(
        self, tmp_path: Path, field: dict[str, Any], expected: set[tuple[int, int]]
    ) -> None:
        assert wins(load_one(tmp_path, self.ROW | field, "ranking")) == expected

    def test_order_of_names(self, tmp_path: Path) -> None:
        named = [{"id": n, "text": t} for n, t in zip(("甲", "乙", "丙"), self.ROW["responses"], strict=True)]
        example = load_one(tmp_path, {"prompt": "Q", "responses": named, "ranking": ["丙", "甲", "乙"]}, "ranking")
        assert wins(example) == {(2, 0), (2, 1), (0, 1)}

    def test_all_tied(self, tmp_path: Path) -> None:
        rows = [self.ROW | {"ranks": [1, 2, 3]}, self.ROW | {"ranks": [1, 1, 1]}]
        assert reasons(tmp_path, rows) == [(2, "all responses are tied")]

    @pytest.mark.parametrize(
        ("field", "fragments"),
        [
            ({"ranks": [1, 3, 3]}, ["[1, 3, 3]", "gap", "[1, 2, 2, 3]"]),
            ({"ranks": [0, 1, 2]}, ["does not begin with 1"]),
            ({"ranks": [1, 2]}, ["a list of 3 ranks"]),
            ({"ranks": [1, float("nan"), 2]}, ["ranks[1]", "nan"]),
            ({"ranking": [0, 1]}, ["response 2 0 times"]),
            ({"ranking": [0, 1, 1, 2]}, ["response 1 2 times"]),
            ({"ranking": [0, 1, 3]}, ["names a response that is not there: 3"]),
            ({"ranking": "0>1>2"}, ["'0>1>2'", "from best to worst"]),
            ({"ranking": [0, 1, 2], "ranks": [1, 2, 3]}, ["beside 'ranks'"]),
        ],
    )
    def test_refused(self, tmp_path: Path, field: dict[str, Any], fragments: list[str]) -> None:
        with pytest.raises(DataError) as error:
            load_preferences(write(tmp_path, [self.ROW | {"ranks": [1, 2, 3]}, self.ROW | field]))
        assert error.value.row == 2
        assert all(f in str(error.value) for f in fragments), str(error.value)


class TestScored:
    ROW: ClassVar[dict[str, Any]] = {"prompt": "点数は？", "responses": ["ろ", "い", "は"], "scores": [0.5, 2, 0.5]}

    def test_higher_wins_and_ties_give_nothing(self, tmp_path: Path) -> None:
        example = load_one(tmp_path, self.ROW | {"annotator": "審判"}, "scores")
        assert wins(example) == {(1, 0), (1, 2)}
        assert {c.annotator for c in example.comparisons} == {"審判"}

    @pytest.mark.parametrize(
        ("scores", "fragment"),
        [
            ([1, float("nan"), 2], "field 'scores[1]': is nan; a finite number"),
            ([1, float("inf"), 2], "is inf"),
            ([1, "2", 3], "is '2'"),
            ([1, True, 3], "is True"),
            ([1, 2], "a list of 3 numbers"),
        ],
    )
    def test_refused(self, tmp_path: Path, scores: Any, fragment: str) -> None:
        with pytest.raises(DataError) as error:
            load_preferences(write(tmp_path, [self.ROW, self.ROW | {"scores": scores}]))
        assert error.value.row == 2
        assert fragment in str(error.value)


class TestComparisons:
    ROW: ClassVar[dict[str, Any]] = {
        "prompt": "Q",
        "responses": ["a", "b", "c"],
        "comparisons": [{"winner": 2, "loser": 0, "weight": 0.5}],
    }
    NAMED: ClassVar[dict[str, Any]] = {
        "prompt": "どちら？",
        "responses": [{"id": "甲", "text": "はい"}, {"id": "乙", "text": "いいえ"}],
        "comparisons": [
            {"winner": "乙", "loser": "甲", "weight": 2, "annotator": "田中"},
            {"winner": "甲", "loser": "乙", "weight": None, "annotator": 3},
        ],
    }

    def test_by_index(self, tmp_path: Path) -> None:
        example = load_one(tmp_path, self.ROW, "comparisons")
        assert example.comparisons == (Comparison(winner=2, loser=0, weight=0.5),)

    def test_by_name(self, tmp_path: Path) -> None:
        example = load_one(tmp_path, self.NAMED, "comparisons")
        assert example.comparisons == (
            Comparison(winner=1, loser=0, weight=2, annotator="田中"),
            Comparison(winner=0, loser=1, annotator="3"),
        )

    @pytest.mark.parametrize(
        ("change", "fragment"),
        [
            ({"comparisons": [{"winner": 3, "loser": 0}]}, "names a response that is not there: 3"),
            ({"comparisons": [{"winner": -1, "loser": 0}]}, "names a response that is not there: -1"),
            ({"comparisons": [{"winner": "a", "loser": 0}]}, "names a response that is not there: 'a'"),
            ({"comparisons": [{"winner": 1, "loser": 1}]}, "compares a response with itself"),
            ({"comparisons": [{"winner": 1, "loser": 0, "weight": -1}]}, "greater than 0"),
            ({"comparisons": [{"winner": 1, "loser": 0, "weight": float("nan")}]}, "finite"),
            ({"comparisons": [{"winner": 1, "loser": 0, "annotator": [1]}]}, "is [1]"),
            ({"comparisons": [{"winner": 1, "loser": 0, "wieght": 2}]}, "comparisons.0.wieght"),
            ({"comparisons": [{"winner": 1}]}, "comparisons.0.loser"),
            ({"comparisons": {"winner": 1}}, "a list of objects"),
            ({"responses": "abc"}, "list of texts"),
            ({"responses": [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]}, "another response of this row has"),
            ({"responses": [{"id": "a", "text": "x"}, {"text": "y"}]}, "object with id and text"),
        ],
    )
    def test_refused(self, tmp_path: Path, change: dict[str, Any], fragment: str) -> None:
        with pytest.raises(DataError) as error:
            load_preferences(write(tmp_path, [self.ROW, self.ROW | change]))
        assert error.value.row == 2
        assert fragment in str(error.value)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"responses": ["a", "b", "a "]}, "two responses are equal"),
            ({"responses": ["a", "b", " "]}, "a response is empty"),
            ({"comparisons": []}, "there are no comparisons"),
        ],
    )
    def test_dropped(self, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
        assert reasons(tmp_path, [self.ROW, self.ROW | change]) == [(2, reason)]


class TestRecognition:
    @pytest.mark.parametrize(
        ("row", "fragments"),
        [
            ({"prompt": "Q", "completion": "A", "label": True}, ["unpaired preference", "a label says whether"]),
            ({"prompt": "Q", "completions": ["A"], "labels": [True]}, ["stepwise supervision"]),
            ({"prompt": "Q", "completion": "A"}, ["without a comparison"]),
            ({"messages": [user("Q"), assistant("A")]}, ["without a comparison"]),
            ({"chosen": "空は青い。", "rejected": "空は緑だ。"}, ["could only be guessed", "Add a prompt"]),
            ({"question": "x"}, ["'question'", "no known form"]),
        ],
    )
    def test_refused_with_the_reason(self, tmp_path: Path, row: dict[str, Any], fragments: list[str]) -> None:
        with pytest.raises(DataError) as error:
            load_preferences(write(tmp_path, [row]))
        assert error.value.row == 1
        assert all(f in str(error.value) for f in fragments), str(error.value)

    def test_a_first_row_without_content_does_not_decide(self, tmp_path: Path) -> None:
        loaded = load_preferences(write(tmp_path, [PAIR | {"chosen": None}, PAIR]), max_drop=0.5)
        assert (loaded.report.form, loaded.report.kept) == ("pair", 1)

    def test_another_form_further_down(self, tmp_path: Path) -> None:
        rows = [PAIR] * 30 + [TestComparisons.ROW]
        with pytest.raises(DataError, match=r":31: is of the form 'comparisons', while the first rows .* 'pair'"):
            load_preferences(write(tmp_path, rows))

    def test_format_overrides(self, tmp_path: Path) -> None:
        row = TestImplicit.ROW | {"prompt": "ignored"}
        loaded = load_preferences(write(tmp_path, [row]), form="implicit")
        assert (loaded.report.form, len(loaded.examples[0].prompt)) == ("implicit", 4)
        with pytest.raises(DataError, match="field 'responses': is missing"):
            load_preferences(write(tmp_path, [row]), form="scores")

    def test_unknown_format(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="format is 'xml'; accepted: auto, pair, implicit"):
            load_preferences(write(tmp_path, [PAIR]), form="xml")
