"""The sentences of a plan, in English and Japanese, with the same keys and the same places to fill."""

from __future__ import annotations

__all__ = ["WORDS"]

EN = {
    "title": "Plan for {file}",
    "made": "Made {created} by safetyvalve {version}. Measured, assumed and extrapolated figures are called so.",
    "short": "In short",
    "data_head": "Data",
    "data": "{comparisons:,} comparisons on {kept:,} prompts in {conversations:,} conversations (opening "
    "turns); {dropped:,} of {rows:,} rows were left out.",
    "chosen": "{chosen:,} of the kept examples were chosen by --max-examples; all figures are of these.",
    "defects": "{duplicates:,} duplicates, {contradictions:,} contradictory pairs, {near_equal:,} near-equal "
    "pairs; `safetyvalve data check` names the rows.",
    "longer": "The longer response won {share:.1%} ({low:.1%} to {high:.1%}) of the comparisons of unequal length.",
    "curve_head": "Is more data of this kind worth it? (a probe's learning curve)",
    "probe_embedding": "What learned here is a probe, no language model: a Bradley-Terry reward, linear in "
    "{features} features of the answer's sentence embedding ({source}). It reads the answer alone.",
    "probe_hidden": "What learned here is a probe, no language model: a Bradley-Terry reward, linear in "
    "{features} features, the frozen last hidden states of {source} averaged over the answer.",
    "probe_means": "It stands for how fast the order of held-out pairs is learned from these labels by a "
    "simple learner. It does not stand for a trained policy's quality, nor for the level that a fine-tuned "
    "reward model reaches: that can be higher and can go on rising where the probe is flat.",
    "few": "No curve: there are {comparisons:,} comparisons in {conversations:,} conversations; a curve needs "
    "{comparisons_needed:,} in {conversations_needed:,}.",
    "left_out": "{left_out:,} prompts were left out of the curve: the model cannot read them (context, special "
    "tokens).",
    "curve_how": "{draws} draws; in each, {held_out:.0%} of the prompts are held out by opening turn, and "
    "nested subsets of the rest are learned from. Intervals: 95%, over conversations. Spread: standard "
    "deviation over draws.",
    "curve_table": "| comparisons learned from | held-out accuracy | 95% interval | spread | log loss, nats | "
    "gain of the doubling |",
    "gain": "{estimate:+.1f} points ({low:+.1f} to {high:+.1f})",
    "helps": "The last doubling that was measured raised the probe's accuracy by {gain}.",
    "unclear": "Whether the last doubling that was measured helped the probe cannot be told: {gain}.",
    "harms": "The last doubling that was measured lowered the probe's accuracy by {gain}: look at the data's quality.",
    "next": "Extrapolation, not measured: {times:.2g} times the data would take the probe from {now:.1%} to "
    "{then:.1%} ({low:.1%} to {high:.1%}), a gain of {gain}. Further than the next doubling nothing is claimed.",
    "checked": "The same rule without the last point said {then:.1%} ({low:.1%} to {high:.1%}) for it; "
    "{now:.1%} was measured, {inside}.",
    "inside": "inside",
    "outside": "outside: distrust the extrapolation",
    "caution_unknown": "Caution: the encoder does not know many of the tokens. Name one for this language with "
    "--encoder, or take --probe hidden.",
    "caution_script": "Caution: many letters are not in Latin script and this encoder is for English; the "
    "curve may be flat for that alone. Name one for this language with --encoder, or take --probe hidden.",
    "caution_cut": "Caution: of many texts the encoder read only the end.",
    "caution_few": "Caution: few prompts make the baseline.",
    "noise_head": "Label noise",
    "noise": "{rate:.1%} ({low:.1%} to {high:.1%}) of the labels are the wrong way round, estimated from "
    "{pairs:,} pairs compared more than once.",
    "ceiling": "On such labels no one can be right more often than {least:.1%} to {most:.1%} (over the "
    "interval: {least_wide:.1%} to {most_wide:.1%}), depending on how the noise is spread over pairs.",
    "noise_unknown": "Cannot be estimated: no two responses were compared more than once. {repeats:,} pairs "
    "judged by a second person tell it to 5 points ({hours:.1f} hours).",
    "scenarios": "Scenarios, not estimates:",
    "scenario_assumed": "The scenario asked for by --label-error, not an estimate:",
    "scenario_table": "| if so many labels are wrong | best possible accuracy | the probe, on labels without errors |",
    "impossible": "impossible: it would exceed 100%",
    "no_probe": "no curve",
    "coverage_head": "The prompts to serve",
    "coverage_none": "Not looked at: name them with --serving-prompts.",
    "coverage": "{share:.1%} ({low:.1%} to {high:.1%}) of {n:,} prompts to serve are farther from the data "
    "than 95% of the data's own prompts are from each other; by that measure 5% would be, if both came from "
    "one source.",
    "coverage_do": "Collect comparisons for the farthest first: coverage is what the guarantee rests on. The farthest:",
    "farthest": "- row {row}, distance {distance:.3f}: {text}",
    "settings_head": "beta and eta",
    "start": "Begin with `--objective rpo --beta {beta:g} --eta {eta:g} --reduction {reduction}` and sweep "
    "eta; the baseline is the chosen responses.",
    "eta_why": "eta: N = {comparisons:,} comparisons, 1/sqrt(N) = {scale:.3g}. On the exact test bed the best "
    "eta was 1 to 2 times 1/sqrt(N) while some answers stay uncovered, and less where the data cover all "
    "(docs/testbed.md). The measured best of two language-model studies, 0.05, was 0.98/sqrt(N) with 384 "
    "comparisons (docs/eta.md) and 1.36/sqrt(N) with 743 (docs/study-hh.md).",
    "beta_why": "beta: {beta:g} was the better of 0.05 and 0.2 in docs/study-hh.md. RPO is flat in beta where "
    "DPO falls on the test bed, so eta is swept first and beta is looked at once, at {betas}.",
    "constants": "The theorem's own constants are not used: its bound was 14,000 to 19,000 times too large "
    "where it could be checked (docs/testbed.md).",
    "parity": "At this eta the SFT term pulls as hard on a chosen response as DPO at a margin of {margin:.2f} nats.",
    "sweep": "The sweep, {runs} runs; choose on validation prompts, report on others:",
    "sweep_table": "| objective | beta | eta | runs | for |",
    "purpose_eta": "the sweep of eta",
    "purpose_control": "control without the SFT term",
    "purpose_beta": "a look at beta, at the best eta",
    "purpose_repeat": "further seeds, at the best eta",
    "purpose_repeat_dpo": "further seeds of the control",
    "evaluation_head": "Evaluation by people",
    "evaluation_table": "| win rate to be shown | prompts | judgments | people | hours | looked at all the "
    "time: prompts |",
    "evaluation_open": "No difference was chosen (--win-rate or --eval-prompts); these are scenarios.",
    "evaluation_assumed": "Chance to show it {power:.0%}, {confidence:.0%} interval. Assumed, to be measured "
    "in a trial: ties {ties:.0%}, agreement {agreement:g}, {seconds:g} seconds a judgment, {raters} judging a "
    "prompt, {extra:.0%} more for gold items, practice and repeats.",
    "not_enough": "not with any number",
    "none": "none",
    "more_than_six": "more than six times",
    "machine_head": "Machine",
    "machine_none": "Not measured: name the model with --model.",
    "machine": "A run of {steps:,} steps of {prompts} prompts ({epochs:g} epochs) of {model} takes {hours} on "
    "this machine ({machine}), {gib:.1f} GiB at the peak; measured on its first steps.",
    "machine_refused": "The run was refused on this machine ({machine}): {reason}",
    "cost_head": "Hours and money",
    "cost_table": "| work | hours of people | hours of machine | money |",
    "work_evaluation": "comparison of two models by people",
    "work_repeats": "pairs judged twice, for the label noise",
    "work_doubling": "as many comparisons again (a choice, not in the sum)",
    "work_sweep": "the sweep",
    "total": "Evaluation and sweep together: {money}.",
    "missing": "No total: {options} not given. What is not known is not counted as nothing.",
    "unknown": "not known",
    "minutes": "{value:.0f} minutes",
    "hours": "{value:.1f} hours",
    "limits_head": "What this plan does not say",
    "limits": "- The curve is about the same kind of data from the same people; other data may be worth more.\n"
    "- A probe that stops learning does not show that a language model would.\n- Accuracy on held-out pairs is "
    "not the quality of answers: that is what the evaluation by people is for.\n- Weights of comparisons are "
    "not used by the probe.",
    "short_few": "Learning curve: too few comparisons.",
    "short_evaluation": "Evaluation: {judgments:,} judgments, {hours:.0f} hours, to show a win rate of {rate:.1%}.",
    "short_evaluation_open": "Evaluation: choose the win rate to be shown.",
    "short_settings": "Settings: beta {beta:g}, eta around {eta:g}, {runs} runs.",
    "short_noise": "Label noise: {rate:.1%}; no one can be right on these labels more often than {most:.1%}.",
    "short_noise_unknown": "Label noise: cannot be estimated.",
    "short_coverage": "Prompts to serve that the data does not cover: {share:.1%}.",
}

JA = {
    "title": "計画: {file}",
    "made": "作成 {created}(safetyvalve {version})。実測・仮定・外挿の数値はそれぞれ明記します。",
    "short": "要点",
    "data_head": "データ",
    "data": "比較 {comparisons:,} 件、プロンプト {kept:,} 件、会話(最初の発話){conversations:,} 種類。{rows:,} "
    "行のうち {dropped:,} 行を除外しました。",
    "chosen": "--max-examples により {chosen:,} 件を選びました。以下の数値はすべてこの範囲のものです。",
    "defects": "重複 {duplicates:,} 件、矛盾する組 {contradictions:,} 件、ほぼ同じ応答の組 {near_equal:,} 件。"
    "行番号は `safetyvalve data check` で確認できます。",
    "longer": "長さの異なる比較のうち、長い応答が選ばれた割合は {share:.1%}({low:.1%}〜{high:.1%})です。",
    "curve_head": "同種のデータを増やす価値はあるか(プローブの学習曲線)",
    "probe_embedding": "ここで学習したのは言語モデルではなくプローブです。応答の文埋め込み({source})の "
    "{features} 個の特徴に線形な Bradley-Terry 報酬で、応答だけを読みます。",
    "probe_hidden": "ここで学習したのは言語モデルではなくプローブです。{source} の凍結した最終層の隠れ状態を応"
    "答全体で平均した {features} 個の特徴に線形な Bradley-Terry 報酬です。",
    "probe_means": "このデータから未知の組の優劣を単純な学習器がどれだけ速く学べるかを表します。学習後の方策の"
    "品質や、微調整した報酬モデルが達する水準は表しません。それらはより高く、プローブが頭打ちでも伸び続けること"
    "があります。",
    "few": "学習曲線は作れません。比較は {comparisons:,} 件、会話は {conversations:,} 種類ですが、"
    "{comparisons_needed:,} 件と {conversations_needed:,} 種類が必要です。",
    "left_out": "モデルが読めない(文脈長、特殊トークン)プロンプト {left_out:,} 件を曲線から除きました。",
    "curve_how": "{draws} 回の抽出。毎回、最初の発話の単位でプロンプトの {held_out:.0%} を評価用に分け、残りの"
    "入れ子の部分集合から学習します。区間は会話を単位とする 95% 信頼区間、ばらつきは抽出間の標準偏差です。",
    "curve_table": "| 学習に使った比較 | 評価用データの正解率 | 95% 区間 | ばらつき | 対数損失(nat) | 倍増による伸び |",
    "gain": "{estimate:+.1f} ポイント({low:+.1f}〜{high:+.1f})",
    "helps": "実測した最後の倍増で、プローブの正解率は {gain} 上がりました。",
    "unclear": "実測した最後の倍増がプローブに役立ったかは判断できません: {gain}。",
    "harms": "実測した最後の倍増で、プローブの正解率は下がりました: {gain}。データの質を確かめてください。",
    "next": "外挿(実測ではありません): データが {times:.2g} 倍になると、プローブは {now:.1%} から {then:.1%}("
    "{low:.1%}〜{high:.1%})になる見込みです。伸びは {gain}。次の倍増より先については何も主張しません。",
    "checked": "最後の点を除いて同じ規則で予測すると {then:.1%}({low:.1%}〜{high:.1%})、実測は {now:.1%} で、"
    "{inside}。",
    "inside": "区間内でした",
    "outside": "区間外でした。外挿を信用しないでください",
    "caution_unknown": "注意: 文埋め込みモデルが知らないトークンが多くあります。--encoder でこの言語のモデルを"
    "指定するか、--probe hidden を使ってください。",
    "caution_script": "注意: ラテン文字以外が多いのに、この文埋め込みモデルは英語用です。それだけで曲線が平らに"
    "なり得ます。--encoder でこの言語のモデルを指定するか、--probe hidden を使ってください。",
    "caution_cut": "注意: 多くの文章で末尾しか読まれていません。",
    "caution_few": "注意: 基準となるプロンプトが少数です。",
    "noise_head": "ラベルの誤り",
    "noise": "ラベルの {rate:.1%}({low:.1%}〜{high:.1%})が逆向きと推定されます。2 回以上比較された {pairs:,} 組"
    "に基づきます。",
    "ceiling": "このようなラベルに対する正解率は、最善でも {least:.1%}〜{most:.1%} です(推定の区間全体では "
    "{least_wide:.1%}〜{most_wide:.1%})。誤りの偏り方によります。",
    "noise_unknown": "推定できません。2 回以上比較された応答の組がないためです。{repeats:,} 組を別の人がもう一"
    "度判定すれば 5 ポイントの精度で分かります({hours:.1f} 時間)。",
    "scenarios": "シナリオ(推定ではありません):",
    "scenario_assumed": "--label-error で指定されたシナリオ(推定ではありません):",
    "scenario_table": "| 逆向きのラベルの割合がこうなら | 達し得る最高の正解率 | 誤りのないラベルでのプローブの"
    "正解率 |",
    "impossible": "あり得ません(100% を超えます)",
    "no_probe": "曲線なし",
    "coverage_head": "運用で受けるプロンプト",
    "coverage_none": "調べていません。--serving-prompts で指定してください。",
    "coverage": "運用で受けるプロンプト {n:,} 件のうち {share:.1%}({low:.1%}〜{high:.1%})は、データのプロンプト"
    "同士の距離の 95% 点よりデータから離れています。出所が同じなら 5% になる指標です。",
    "coverage_do": "最も離れたものから比較を集めてください。保証はデータによる被覆に基づきます。最も離れたもの:",
    "farthest": "- {row} 行目、距離 {distance:.3f}: {text}",
    "settings_head": "beta と eta",
    "start": "`--objective rpo --beta {beta:g} --eta {eta:g} --reduction {reduction}` から始め、eta を変えて試"
    "してください。ベースラインは選ばれた応答です。",
    "eta_why": "eta: 比較 N = {comparisons:,} 件、1/sqrt(N) = {scale:.3g}。厳密に解けるテストベッドでは、被覆さ"
    "れない応答が残る間は 1/sqrt(N) の 1〜2 倍が最良で、データが全体を覆うともっと小さくなりました"
    "(docs/testbed.md)。言語モデルの 2 つの実験で最良だった 0.05 は、比較 384 件で 0.98/sqrt(N)(docs/eta.md)、"
    "743 件で 1.36/sqrt(N) でした(docs/study-hh.md)。",
    "beta_why": "beta: docs/study-hh.md で試した 0.05 と 0.2 のうち {beta:g} が良好でした。テストベッドでは "
    "DPO が落ちる所でも RPO は beta にほとんど依存しないため、まず eta を変え、beta は {betas} で一度確かめます"
    "。",
    "constants": "定理の定数は使いません。確かめられた例では、上界は実際の 14,000〜19,000 倍でした(docs/testbed.md)。",
    "parity": "この eta では、マージン {margin:.2f} nat で SFT 項と DPO が選ばれた応答を引く強さが等しくなります。",
    "sweep": "試すもの({runs} 回)。検証用プロンプトで選び、別のプロンプトで報告してください:",
    "sweep_table": "| 目的関数 | beta | eta | 回数 | 目的 |",
    "purpose_eta": "eta の探索",
    "purpose_control": "SFT 項なしの対照",
    "purpose_beta": "最良の eta で beta を確認",
    "purpose_repeat": "最良の eta で乱数を変えて反復",
    "purpose_repeat_dpo": "対照を乱数を変えて反復",
    "evaluation_head": "人による評価",
    "evaluation_table": "| 示したい勝率 | プロンプト | 判定 | 評価者 | 時間 | 途中でも見る場合のプロンプト |",
    "evaluation_open": "示したい差が選ばれていません(--win-rate または --eval-prompts)。以下はシナリオです。",
    "evaluation_assumed": "検出確率 {power:.0%}、信頼水準 {confidence:.0%}。仮定(試行で実測してください): 引き"
    "分け {ties:.0%}、評価者間の一致 {agreement:g}、1 件 {seconds:g} 秒、1 プロンプトあたり {raters} 人、確認用"
    "・練習・再判定を {extra:.0%} 加算。",
    "not_enough": "何件でも不足",
    "none": "なし",
    "more_than_six": "6 倍超",
    "machine_head": "計算機",
    "machine_none": "計測していません。--model でモデルを指定してください。",
    "machine": "{model} の {steps:,} ステップ(各 {prompts} プロンプト、{epochs:g} エポック)の学習 1 回は、この"
    "計算機({machine})で {hours}、最大 {gib:.1f} GiB です。最初の数ステップで実測しました。",
    "machine_refused": "この計算機({machine})では学習が拒否されました: {reason}",
    "cost_head": "時間と費用",
    "cost_table": "| 作業 | 人の時間 | 計算機の時間 | 費用 |",
    "work_evaluation": "人による 2 モデルの比較",
    "work_repeats": "ラベルの誤りを知るための二重判定",
    "work_doubling": "比較をもう同じ数だけ集める(任意。合計に含めません)",
    "work_sweep": "設定の探索",
    "total": "評価と探索の合計: {money}。",
    "missing": "合計は出せません: {options} が未指定です。分からないものを 0 とは数えません。",
    "unknown": "不明",
    "minutes": "{value:.0f} 分",
    "hours": "{value:.1f} 時間",
    "limits_head": "この計画が示さないこと",
    "limits": "- 曲線は、同じ人々による同種のデータについてのものです。別のデータの方が価値が高いこともあります"
    "。\n- プローブの頭打ちは、言語モデルの頭打ちを意味しません。\n- 未知の組の正解率は応答の品質ではありません"
    "。品質は人による評価で確かめます。\n- 比較の重みはプローブでは使いません。",
    "short_few": "学習曲線: 比較が足りません。",
    "short_evaluation": "評価: 勝率 {rate:.1%} を示すには {judgments:,} 判定、{hours:.0f} 時間。",
    "short_evaluation_open": "評価: 示したい勝率を選んでください。",
    "short_settings": "設定: beta {beta:g}、eta は {eta:g} 前後、学習 {runs} 回。",
    "short_noise": "ラベルの誤り: {rate:.1%}。このラベルに対する正解率は最善でも {most:.1%}。",
    "short_noise_unknown": "ラベルの誤り: 推定できません。",
    "short_coverage": "データが覆っていない運用プロンプト: {share:.1%}。",
}

WORDS = {"en": EN, "ja": JA}
