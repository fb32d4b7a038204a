"""What ``safetyvalve init`` sets, and on what grounds, in English and Japanese."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

__all__ = ["DEFAULT", "PRESETS", "WORDS", "Choice"]

DEFAULT: Final = object()
"""The option's own default, shown because it is the first that people change."""


class Choice(NamedTuple):
    """A value and its ground."""

    value: Any
    en: str
    ja: str


_DATA = Choice(
    "comparisons.jsonl",
    "Your comparisons. `safetyvalve data check FILE` says what is kept and what is dropped, and why.",
    "比較データ。`safetyvalve data check ファイル` で、使える件数と除かれる行の理由を確かめられます。",
)
_SCORER = Choice(
    None,
    "Independent score of sampled answers, module:function(prompts, answers). Without one the report draws no "
    "conclusion about overoptimization; a simple rubric of your own is better than none.",
    "回答の独立した採点、モジュール:関数(prompts, answers)。ない場合、報告書は過剰最適化について結論を出しません。"
    "自作の簡単な採点基準でも、ないよりは役に立ちます。",
)
_LANG = Choice("en", "Language of the report.", "報告書の言語。")
_EVAL_EVERY = (
    "An evaluation before the first step and at 10, 20, 30, 40: a rise that turns shows in five points, not two."
)

PRESETS: dict[str, dict[str, Choice]] = {
    "pilot": {
        "data": _DATA,
        "model": Choice(
            "smollm2-135m",
            "Small, and needs no hub: to see that data, settings and report work. Your own model comes next.",
            "小さく、モデルハブも要りません。データ・設定・報告書がそろって動くかを見るためのもので、次に自分のモデルを使います。",
        ),
        "max_examples": Choice(
            400,
            "Enough to see cost, memory and which way things move. Raise it later: the same 400 stay among the chosen.",
            "費用・メモリ・変化の向きを見るには足ります。後で増やしても、この 400 件は選ばれたまま残ります。",
        ),
        "held_out": Choice(
            80,
            "Kept for measuring. The standard error of an accuracy near one half on 80 comparisons is 0.056.",
            "測定用に取り分ける件数。80 件の比較では、正解率 0.5 付近の標準誤差は 0.056 です。",
        ),
        "objective": Choice(
            "rpo",
            "DPO with the SFT term as its safety valve. `--objective dpo` on the command line gives its counterpart.",
            "SFT 項を安全弁として加えた DPO です。コマンドラインの `--objective dpo` で比較用の学習ができます。",
        ),
        "steps": Choice(
            40,
            "40 steps of 8 prompts are 320: once over what is not held out. Repeating so few invites overfitting.",
            "8 プロンプト × 40 ステップ = 320 で、学習用データを一巡します。少ないデータの繰り返しは過学習を招きます。",
        ),
        "prompts_per_step": Choice(8, "See steps.", "steps を参照。"),
        "eval_every": Choice(
            10,
            _EVAL_EVERY,
            "学習前と 10、20、30、40 ステップで測ります。上がってから下がる変化は、2 点では見えません。",
        ),
        "held_out_examples": Choice(80, "All that are held out.", "取り分けた全件を測ります。"),
        "sample_prompts": Choice(
            32,
            "32 prompts x 2 answers: on 64 answers the standard error of the KL was about a twentieth of its value.",
            "32 プロンプト × 2 回答。64 回答での KL の標準誤差は、値の約 20 分の 1 でした。",
        ),
        "samples_per_prompt": Choice(2, "See sample_prompts.", "sample_prompts を参照。"),
        "checkpoint_every": Choice(
            10,
            "A run that is stopped loses at most ten steps; `safetyvalve resume` goes on.",
            "止まっても失うのは最大 10 ステップです。`safetyvalve resume` で再開できます。",
        ),
        "scorer": _SCORER,
        "lang": _LANG,
    },
    "standard": {
        "data": _DATA,
        "model": Choice(DEFAULT, "Alias, local folder or hub name.", "別名、フォルダー、またはハブ名。"),
        "held_out": Choice(DEFAULT, "Share, or number, kept for measuring.", "測定用に取り分ける割合または件数。"),
        "objective": Choice(
            "rpo",
            "`--objective dpo` on the command line gives the run to compare.",
            "コマンドラインの `--objective dpo` で比較用の学習ができます。",
        ),
        "beta": Choice(
            DEFAULT,
            "Smaller allows more distance from the start, and more overoptimization. Try 0.01 to 0.1.",
            "小さいほど元のモデルから離れることを許し、過剰最適化もしやすくなります。0.01～0.1 を試してください。",
        ),
        "eta": Choice(
            0.05,
            "The default, chosen by the sweep in docs/eta.md. Sweep 0.02 to 0.2 with a score of your own.",
            "既定値（docs/eta.md の探索で決めた値）。自分の採点で 0.02～0.2 を試してください。",
        ),
        "learning_rate": Choice(
            DEFAULT,
            "null takes 2e-5, which suits a small model, or 2e-4 with fine_tune lora and qlora; larger ones want less.",
            "null なら全パラメータの学習で 2e-5、lora か qlora で 2e-4。大きなモデルではより小さくします。",
        ),
        "steps": Choice(
            200,
            "200 steps of 8 prompts are 1,600. Once over your data is (examples to train on) / prompts_per_step.",
            "8 プロンプト × 200 ステップ = 1,600。一巡は「学習用の件数 ÷ prompts_per_step」ステップです。",
        ),
        "prompts_per_step": Choice(DEFAULT, "See steps.", "steps を参照。"),
        "eval_every": Choice(
            20, "Eleven evaluations: enough to see where a score turns.", "11 回測ります。採点の変わり目が見えます。"
        ),
        "held_out_examples": Choice(
            200,
            "The standard error of an accuracy near one half on 200 comparisons is 0.035.",
            "200 件の比較では、正解率 0.5 付近の標準誤差は 0.035 です。",
        ),
        "sample_prompts": Choice(
            96,
            "With 96 prompts the standard error of the quickstart's score was 0.09 of a change of about 0.7.",
            "96 プロンプトのとき、クイックスタートの採点の標準誤差は、約 0.7 の変化に対して 0.09 でした。",
        ),
        "samples_per_prompt": Choice(
            1,
            "More prompts tell more than more answers to each.",
            "同じプロンプトの回答を増やすより、プロンプトを増やす方が情報が増えます。",
        ),
        "scorer": _SCORER,
        "lang": _LANG,
    },
}

WORDS = {
    "en": {
        "pilot": "Preset pilot: start small. A few hundred comparisons, once over, measured five times.",
        "standard": "Preset standard: what people change first, and enough measuring to draw conclusions.",
        "use": "Run it with `safetyvalve train --config {file}`; an option on the command line wins over a line here.",
        "paths": "Relative paths start at the folder in which that command is run.",
        "set": "What this preset sets, and why",
        "rest": "Everything else, at its default; remove the '#' of a line to set it",
    },
    "ja": {
        "pilot": "プリセット pilot：小さく始めるための設定です。数百件の比較を一巡し、5 回測ります。",
        "standard": "プリセット standard：まず調整される設定を並べ、結論を出せるだけの測定をします。",
        "use": "`safetyvalve train --config {file}` で実行します。コマンドラインのオプションが優先されます。",
        "paths": "相対パスは、そのコマンドを実行するフォルダーを起点とします。",
        "set": "このプリセットが決める値と、その理由",
        "rest": "そのほかの設定と既定値。行頭の「#」を外すと有効になります（説明は英語です）",
    },
}
