"""The ``release.yaml`` that ``release init`` writes, with its grounds, in English and Japanese."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import yaml

__all__ = ["template"]


def template(name: str, candidate: str, control: str, trainers: Sequence[str], *, lang: str = "en") -> str:
    """The file's text: names as given, everything else at its default, with comments.

    Args:
        name: of the release.
        candidate: as verdict files name the model that is to go out.
        control: as they name the one that is out.
        trainers: who trained the candidate.
        lang: of the comments.
    """
    words = _WORDS[lang]
    lines = [*_comment(words["head"], lang), ""]
    for key, value in (("name", name), ("candidate", candidate), ("control", control)):
        lines.append(_line({key: value}))
    lines += ["", *_comment(words["trainers"], lang), _line({"trainers": list(trainers)}), ""]
    lines += [*_comment(words["stages"], lang), "stages:", *(f"  - {s}" for s in _STAGES), ""]
    lines += [*_comment(words["guardrails"], lang), "guardrails:"]
    for comment, entry in _GUARDRAILS:
        lines += ["", *("  " + c for c in _comment(words[comment], lang)), *textwrap.indent(entry, "  ").split("\n")]
    for key, entry in _REST:
        lines += ["", *_comment(words[key], lang), entry]
    return "\n".join(lines) + "\n"


def _line(value: object) -> str:
    return yaml.safe_dump(value, allow_unicode=True, width=10**6, sort_keys=False).rstrip("\n")


def _comment(text: str, lang: str) -> list[str]:
    width = 108 if lang == "en" else 58
    return [f"# {line}" for line in textwrap.wrap(text, width, break_long_words=lang == "ja", break_on_hyphens=False)]


_STAGES = (
    "{name: shadow, share: 0.0, min_days: 3}",
    "{name: pilot, share: 0.1, min_days: 7}",
    "{name: full, share: 1.0}",
)
_GUARDRAILS = (
    (
        "win",
        """- metric: human_win_rate
  kind: bounded
  range: [0, 1]
  compare: level
  level: 0.5
  better: higher
  margin: 0.05
  evidence: people
  judge_weight: 0.0
  stages: [shadow, pilot]
  planning: {per_day: 60, control: 0.5, candidate: 0.57, spread: 0.45}""",
    ),
    (
        "both_bad",
        """- metric: both_bad_rate
  kind: bounded
  range: [0, 1]
  compare: level
  level: 0.10
  better: lower
  margin: 0.05
  evidence: people
  stages: [shadow, pilot]
  planning: {per_day: 60, control: 0.10, candidate: 0.08, spread: 0.28}""",
    ),
    (
        "harm",
        """- metric: harm
  kind: binary
  better: lower
  margin: 0.005
  rollback_at: 0.0
  planning: {per_day: 2000, control: 0.004}""",
    ),
    (
        "complaints",
        """- metric: complaints
  kind: binary
  better: lower
  margin: 0.01
  rollback_at: 0.0
  stages: [pilot]
  planning: {per_day: 2000, control: 0.02}""",
    ),
    (
        "edit",
        """- metric: edit_minutes
  kind: bounded
  range: [0, 30]
  better: lower
  margin: 0.5
  stages: [pilot]
  planning: {per_day: 2000, control: 2.0, spread: 3.0}""",
    ),
    (
        "satisfaction",
        """- metric: satisfaction
  kind: bounded
  range: [1, 5]
  better: higher
  margin: 0.15
  stages: [pilot]
  planning: {per_day: 800, control: 4.0, spread: 1.0}""",
    ),
    (
        "latency",
        """- metric: latency_seconds
  kind: continuous
  better: lower
  margin: 0.3
  planning: {per_day: 2000, control: 1.5, spread: 1.0}""",
    ),
    (
        "length",
        """- metric: length_ratio
  kind: bounded
  range: [0, 5]
  compare: level
  level: 1.0
  better: lower
  margin: 0.25
  planning: {per_day: 2000, control: 1.0, candidate: 1.05, spread: 0.5}""",
    ),
)
_REST = (
    ("error_rates", "error_rates: {promote: 0.05, stop: 0.05}"),
    ("approval", "approval:\n  valid_days: 7\n  signers: []"),
    ("valve", "valve: {reward: reward, win_rate: human_win_rate, min_rise: 0.03, judge_weight: 0.5, required: false}"),
)

_WORDS = {
    "en": {
        "head": (
            "A release in stages. Look through it before the first `safetyvalve release record`, which fixes this "
            "file: "
            "margins chosen after the data prove nothing. `safetyvalve release simulate` says what it will take."
        ),
        "trainers": "Who trained the candidate. None of them can approve it.",
        "stages": (
            "share: of the traffic that the candidate answers. At 0 both models answer the same requests and people "
            "see "
            "the control; in between, units (customers, tickets) are split at random; the last stage has 1. min_days: "
            "weekdays differ, so a stage spans at least this."
        ),
        "guardrails": (
            "Each gates alone. margin: loss that is still accepted, in the metric's unit (negative: a gain asked for). "
            "rollback_at: loss whose proof takes all traffic away at once; leave it out for never. kind: binary (0, "
            "1), "
            "bounded (range; values above count as its end) or continuous (holds for many values only). compare: "
            "change "
            "(against the control) or level. planning: assumptions of `release simulate` only; per_day counts units of "
            "both arms. Remove a guardrail that you cannot measure; an empty one stays inconclusive and nothing goes "
            "on."
        ),
        "win": (
            "How often people prefer the candidate's answer, from verdict files or the annotation app. Only people "
            "count. judge_weight above 0 lets a judge's verdicts on further prompts help (prediction-powered)."
        ),
        "both_bad": "Share of prompts on which people call both answers bad. level: your usual rate.",
        "harm": "Harmful answers, as your review or classifier flags them, for each model's answers.",
        "complaints": "Whether the unit complained. The time of a row is when that became known.",
        "edit": "Minutes that a person spent correcting the answer.",
        "satisfaction": "Stars or points that people gave.",
        "latency": (
            "Seconds to the whole answer. Give it a range and kind: bounded for statements at every sample size."
        ),
        "length": (
            "Length of the candidate's answer over the control's: longer answers please judges, not always people."
        ),
        "error_rates": (
            "promote: chance, for each guardrail, that a candidate which loses its margin ever passes. stop: chance, "
            "over "
            "all guardrails and stages together, that a candidate which loses nothing of note ever fails."
        ),
        "approval": (
            "valid_days: how long an approval holds at most. signers: lines as in OpenSSH's allowed_signers, "
            "'b.tanaka ssh-ed25519 AAAA...'; with them approvals must be signed (`release approve --key`)."
        ),
        "valve": (
            "Trips when the learned reward (recorded as this metric for both models on the same prompts) rises and "
            "people's win rate, corrected by a judge's where there are few, does not rise by min_rise. required: true "
            "makes a stage wait for it."
        ),
    },
    "ja": {
        "head": (
            "段階的な公開の設定です。最初の `safetyvalve release record` で固定されますので、その前に見直してください。"
            "データを見てから決めた許容幅には意味がありません。必要な日数は `safetyvalve release simulate` "
            "で分かります。"
        ),
        "trainers": "候補モデルを学習させた人。この人たちは承認できません。",
        "stages": (
            "share は候補モデルが答える割合です。0 では両モデルが同じ依頼に答え、"
            "利用者には現行モデルの回答だけを見せます。"
            "途中の段階では単位(顧客・チケット)を無作為に振り分けます。最後の段階は 1 です。min_days "
            "は最低日数です(曜日の差のため)。"
        ),
        "guardrails": (
            "指標は一つずつ独立に判定します。margin は許容できる悪化(指標の単位。負なら求める改善)。rollback_at は、"
            "それを超える悪化が"
            "示されたら直ちに配信を止める値(書かなければ自動では止めません)。kind は binary(0か1)、bounded(range "
            "あり。上限を超える値は"
            "上限として数えます)、continuous(件数が多い場合だけ成り立ちます)。compare は change(現行との差)か "
            "level(基準値との差)。"
            "planning は `release simulate` の仮定で、per_day は両群合計の件数です。測れない指標は消してください。"
            "データのない指標は"
            "判定保留のままとなり、先へ進めません。"
        ),
        "win": (
            "人が候補モデルの回答を選んだ割合。判定ファイルや評価アプリの結果から取ります。人の判定だけを数えます。"
            "judge_weight を 0 より大きくすると、人が見ていないプロンプトでの判定モデルの結果を補助に使います。"
        ),
        "both_bad": "人が「両方不可」とした割合。level は普段の値です。",
        "harm": "有害な回答。両モデルの回答について、審査や分類器の結果を入れます。",
        "complaints": "苦情の有無。行の時刻は、苦情が分かった時刻です。",
        "edit": "回答の修正にかかった分数。",
        "satisfaction": "満足度の点数。",
        "latency": "回答完了までの秒数。range を決めて kind: bounded にすれば、どの件数でも厳密に成り立ちます。",
        "length": "候補と現行の回答の長さの比。長い回答は判定モデルに好まれますが、人にとって良いとは限りません。",
        "error_rates": (
            "promote は、margin だけ悪い候補が合格してしまう確率(指標ごと)。stop は、"
            "悪化のない候補が不合格や停止になる確率"
            "(全指標・全段階の合計)。"
        ),
        "approval": (
            "valid_days は承認の有効日数の上限。signers は OpenSSH の allowed_signers と同じ書き方の行です"
            "('b.tanaka ssh-ed25519 AAAA...')。書くと署名付きの承認(`release approve --key`)が必要になります。"
        ),
        "valve": (
            "学習された報酬(同じプロンプトへの両モデルの回答について、この名前で記録)が上がっているのに、人の勝率"
            "(件数が少なければ判定モデルで補正)が min_rise だけ上がっていないとき、弁が作動します。"
            "required: true なら、報酬の記録がない間は先へ進みません。"
        ),
    },
}
