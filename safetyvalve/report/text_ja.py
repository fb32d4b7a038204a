"""Messages of the Japanese page."""

from __future__ import annotations

__all__ = ["MESSAGES"]

MESSAGES: dict[str, str] = {
    # joining
    "list.comma": "、",
    "list.last": "{items}、{last}",
    "list.more": "{items}…",
    "clause.joint": "、",
    "interval.span": "{low}〜{high}",
    "interval.none": "プロンプトが1件のため区間なし",
    "when.start": "学習前",
    "when.step": "ステップ{step}",
    # the finding, first sentence
    "finding.verdicts": "独立スコアによる判定は、{clauses}です。",
    "clause.overoptimized": (
        "{run}が「過剰最適化」（学習の損失は下がり続けたのに、独立スコアは{before_when}の{before}から{after_when}の"
        "{after}へ低下）"
    ),
    "clause.worse": (
        "{run}が「悪化」（独立スコアが{before_when}の{before}から{after_when}の{after}へ低下し、学習の損失も下がらず）"
    ),
    "clause.improved": (
        "{run}が「改善」（{start_when}の{start}から{after_when}の{after}へ上昇し、途中からの低下は偶然の範囲内）"
    ),
    "clause.no_change": (
        "{run}が「変化なし」（{start_when}は{start}、{after_when}は{after}で、偶然の範囲を超える差は見られず）"
    ),
    "clause.undetermined": "{run}が「判定できず」（スコアのある評価またはプロンプトが少なすぎるため）",
    "clause.unscored": "{run}が「判定できず」（独立スコアがないため、人が回答を評価する必要あり）",
    "group.overoptimized": "「過剰最適化」が{runs}",
    "group.worse": "「悪化」が{runs}",
    "group.improved": "「改善」が{runs}",
    "group.no_change": "「変化なし」が{runs}",
    "group.undetermined": "「測定不足」が{runs}",
    "group.unscored": "「独立スコアがなく、人の評価が必要」が{runs}",
    "finding.unscored": (
        "{runs}が過剰最適化したかどうかは判断できません（学習報酬だけではわからず、独立スコアもないため、人が回答を評"
        "価する必要があります）。"
    ),
    # the finding, second sentence
    "final.one.higher": (
        "{run}の最終スコアは{score}（ステップ{step}）で、{start_when}より{difference}高くなりました（95%区間 "
        "{interval}）。"
    ),
    "final.one.lower": (
        "{run}の最終スコアは{score}（ステップ{step}）で、{start_when}より{difference}低くなりました（95%区間 "
        "{interval}）。"
    ),
    "final.one.same": (
        "{run}の最終スコアは{score}（ステップ{step}）で、{start_when}との差は確認できません（差 {difference}、95%区間"
        " {interval}）。"
    ),
    "final.two.higher": (
        "最終スコアは{best}が{other}より{difference}高くなりました（{score}対{other_score}、95%区間 {interval}）。"
    ),
    "final.two.same": (
        "最終スコアでは{best}と{other}の差は確認できません（{score}対{other_score}、差 {difference}、95%区間 "
        "{interval}）。"
    ),
    "final.several.above": "最終スコアが最も高いのは{best}（{score}）で、{above}を上回りました。",
    "final.several.both": (
        "最終スコアが最も高いのは{best}（{score}）で、{above}を上回りましたが、{level}との差は確認できません。"
    ),
    "final.several.level": "最終スコアの平均が最も高いのは{best}（{score}）ですが、{level}との差は確認できません。",
    "final.versus.above": "{other}（差 {difference}、95%区間 {interval}）",
    "final.versus.level": "{other}（差 {difference}、95%区間 {interval}）",
    "final.scorers": "採点方法が異なるため（{scorers}）、最終スコアは比較できません。",
    "final.prompts": "共通して採点されたプロンプトが2件に満たないため、最終スコアは比較できません。",
    "final.nothing": "採点された回答が少なすぎるため、学習によって回答がどう変わったかは言えません。",
    "finding.symptom": (
        "証拠ではなく兆候として、評価用ペアで選ばれた応答の平均対数確率は{changes}変化しました（健全な学習でも下がる"
        "ことがあり、選ばれた応答に対するSFT項には定義上これを支える働きがあります）。"
    ),
    "symptom.run": "{run}で{change} nat",
    "finding.nll": "比較のない評価用応答に対する負の対数尤度は、{changes}になりました。",
    "nll.run": "{run}で1トークンあたり{first}から{last} nat",
    "finding.no_symptom": "評価用ペアも測定されていないため、兆候として報告できるものもありません。",
    # frame
    "page.title": "過剰最適化レポート：{runs}",
    "page.eyebrow": "safetyvalve レポート",
    "page.heading": "学習は報酬を過剰に最適化したか",
    "page.runs.one": "対象の学習：{runs}",
    "page.runs.many": "対象の学習（{count}件）：{runs}",
    "page.foot": (
        "safetyvalve {version} が学習フォルダーの記録だけから作成しました。このページは外部から何も読み込みません。"
    ),
    "nav.label": "目次",
    "section.finding": "結論",
    "section.figures": "学習の経過",
    "section.values": "最終値",
    "section.answers": "回答の比較",
    "section.data": "データ",
    "section.settings": "設定・環境",
    "section.methods": "方法と限界",
    "words.title": "結論で使う言葉",
    "words.independent": "独立スコア",
    "words.independent.text": (
        "学習に使わない固定のプロンプトへの回答の良さを、学習が一切見ない尺度で測ったものです。高いほど良い回答です。"
        "ここでの尺度：{scorers}"
    ),
    "words.independent.none": (
        "人の評価や採点基準など、学習が一切見ない尺度で測った回答の良さです。今回の学習にはありません。"
    ),
    "words.learned": "学習の損失",
    "words.learned.text": (
        "学習が直接押し下げる量です。学習に使う比較を、モデル自身の好みがどれだけ説明できていないかを表します。"
    ),
    "words.over": "過剰最適化",
    "words.over.text": (
        "学習の損失は下がり続けるのに独立スコアが下がること。つまり、自分の尺度の上でだけ良くなることです。"
    ),
    "words.interval": "95%区間",
    "words.interval.text": "データと矛盾しない値の範囲（信頼区間）です。ゼロを含まないとき、差が確認できたと書きます。",
    # notices
    "notice.title": "お読みになる前に",
    "notice.missing": "{run}：{files} が見つかりません。該当する内容は推測せず、省いています。",
    "notice.cut": "{run}：{files} の最後の行は書きかけのため（学習の中断によるものです）、除いています。",
    "notice.interrupted": (
        "{run}：最後の評価は予定{planned}ステップ中のステップ{step}です。ここでの「最終」はステップ{step}を指します。"
    ),
    "notice.stopped": (
        "{run}：予定{planned}ステップ中のステップ{step}で、設定された規則により学習が終了しました（{reason}）。ここでの"
        "「最終」はステップ{step}を指します。"
    ),
    "notice.selected.other": (
        "{run}：model/ は最後ではなくステップ{step}の重みです。独立スコア{selected}が全評価中で最高でした。複数から"
        "選んだ最高値は選択によって上に偏ります。別の{count}件の評価用プロンプトへの新しい回答のスコアは{fresh}（標準誤差"
        "{error}）です。"
    ),
    "notice.selected.same": (
        "{run}：model/ は最後ではなくステップ{step}の重みです。独立スコア{selected}が全評価中で最高でした。複数から"
        "選んだ最高値は選択によって上に偏ります。ほかに評価用プロンプトがないため、同じ{count}件のプロンプトへの新しい回答の"
        "スコアを示します：{fresh}（標準誤差{error}）。"
    ),
    "notice.no_evaluation": "{run}：評価の記録がないため、曲線も最終値もありません。",
    "notice.answers_behind": (
        "{run}：最後の評価（ステップ{step}）の回答がありません。スコアはステップ{scored}のものです。"
    ),
    "notice.differ": "目的関数のほかにも違いがあります：{keys}。スコアの差はこれらによる可能性もあります。",
    "notice.unscored_answers": "{run}：独立スコアのない回答が{count}件あり、スコアの計算から除いています。",
    "notice.shared": "最終スコアの比較は、採点されたすべての学習に共通する{count}件のプロンプトだけで行っています。",
    # figures
    "axis.step": "ステップ数",
    "axis.kl": "参照モデルからのKL（nat／応答）",
    "side.chosen": "選択",
    "side.rejected": "非選択",
    "plot.description": "{title}。最初と最後の値：{ends}。",
    "plot.ends": "{label}は{first}と{last}",
    "figure.number": "図{number}",
    "figure.absent": "記録なし：{runs}",
    "figure.nothing": "どの学習にも記録がありません。",
    "figure.nothing.score": "独立スコアがないため、ここに示せるものはありません。人による評価が必要です。",
    "figure.displacement.title": "選ばれた応答と選ばれなかった応答の出やすさの変化",
    "figure.displacement.caption": (
        "読み方：実線は人が選んだ応答、破線は選ばなかった応答で、学習に使っていないペアで測っています。0が学習前のモ"
        "デルです。両方が下がる現象（ディスプレイスメント）は兆候の一つで、健全な学習でも起こります。"
    ),
    "figure.against_kl.title": "出発点から離れるにつれた、実際の良さと学習報酬",
    "figure.against_kl.caption": (
        "読み方：右へ行くほど学習前のモデルから離れています。小さな数字はステップ、縦線はプロンプトにわたる95%区間で"
        "す。学習報酬が上がり続けるのに独立スコアが下がり始めるのが過剰最適化です。"
    ),
    "figure.losses.title": "損失の2つの項と、それぞれが引く強さ",
    "figure.losses.caption": (
        "読み方：すべて評価用ペアでの値です。DPOとRPOの選好損失は0.69（当てずっぽう）から始まり、SFT項のない目的関数"
        "ではSFT項は0です。勾配ノルムから、どちらの項がモデルを動かしているかがわかります。"
    ),
    "figure.ranking.title": "選ばれた応答を見分ける力",
    "figure.ranking.caption": (
        "読み方：マージンは学習報酬が選ばれた応答をどれだけ好むか、正解率はそうなった評価用ペアの割合です（0.5は当て"
        "ずっぽう）。どちらも、回答が良いことまでは示しません。"
    ),
    "figure.answers.title": "回答の姿",
    "figure.answers.caption": (
        "読み方：長さの急な変化、繰り返しの増加、自然に終わらない回答の増加は、劣化の早い兆候です。縦線はプロンプトに"
        "わたる95%区間です。"
    ),
    "panel.displacement": "{run}：対数確率の変化（nat／応答）",
    "panel.displacement_per_token": "{run}：対数確率の変化（nat／トークン）",
    "panel.score": "独立スコア",
    "panel.reward": "回答の学習報酬（開始時からの増加）",
    "panel.preference_loss": "選好損失",
    "panel.sft_term": "SFT項（損失に入る値）",
    "panel.preference_grad_norm": "選好損失の勾配ノルム",
    "panel.sft_grad_norm": "SFT項の勾配ノルム",
    "panel.nll_per_token": "基準応答の負の対数尤度（nat／トークン）",
    "panel.margin": "学習報酬のマージン（nat）",
    "panel.accuracy": "評価用ペアでの正解率",
    "panel.length": "回答の長さ（トークン）",
    "panel.repetition": "繰り返し（重複する3語組の割合）",
    "panel.eos_rate": "自然に終わった回答の割合",
    "panel.kl": "参照モデルからのKL（nat／応答）",
    # tables
    "table.scroll": "表（横にスクロールできます）",
    "table.values.caption": "最後の評価での値。回答から求められるものには、プロンプトにわたる95%区間を付けています",
    "table.value": "項目",
    "row.verdict": "判定",
    "row.last_step": "最後の評価（ステップ）",
    "row.score": "独立スコア",
    "row.gain": "最初の評価からのスコアの変化",
    "row.fall": "最も大きく下回った評価からのスコアの変化",
    "row.best_step": "平均スコアが最も高いステップ",
    "row.reward": "学習報酬（開始時からの増加）",
    "row.chosen_displacement": "選ばれた応答：対数確率の変化（nat／応答）",
    "row.chosen_displacement_per_token": "選ばれた応答：対数確率の変化（nat／トークン）",
    "row.rejected_displacement": "選ばれなかった応答：対数確率の変化（nat／応答）",
    "row.rejected_displacement_per_token": "選ばれなかった応答：対数確率の変化（nat／トークン）",
    "row.baseline_displacement": "基準応答：対数確率の変化（nat／応答）",
    "row.baseline_displacement_per_token": "基準応答：対数確率の変化（nat／トークン）",
    "row.nll_per_token": "基準応答：負の対数尤度（nat／トークン）",
    "row.margin": "学習報酬のマージン（nat）",
    "row.accuracy": "評価用ペアでの正解率",
    "row.preference_loss": "選好損失",
    "row.sft_term": "SFT項",
    "row.preference_grad_norm": "選好損失の勾配ノルム",
    "row.sft_grad_norm": "SFT項の勾配ノルム",
    "row.seconds": "最後の評価までの時間（秒）",
    "row.memory": "最大常駐メモリー（GiB）",
    "row.speed": "学習速度（トークン／秒の中央値）",
    "row.parity_margin": "均衡マージン（nat）",
    "row.effective_token_weight": "トークンあたりの実効重み",
    "row.mean_chosen_length": "選ばれた応答の平均長（トークン）",
    "row.mean_baseline_length": "基準応答の平均長（トークン）",
    "status.overoptimized": "過剰最適化",
    "status.worse": "悪化",
    "status.improved": "改善",
    "status.no_change": "変化は見られない",
    "status.undetermined": "測定不足",
    "status.unscored": "独立スコアなし",
    "cell.none": "記録なし",
    "cell.no_parity": "この設定ではなし",
    "cell.of": "{step}／{planned}",
    "cell.interval": "{estimate}（{span}）",
    "cell.fall": "{change}（ステップ{step}から）",
    "alarms.title": "警報",
    "alarms.caption": "各警報の内容（最初の評価との比較）",
    "alarms.alarm": "警報",
    "alarm.displacement": "選ばれた応答の確率低下（nat／トークン）",
    "alarm.proxy-gap": "代理指標は上昇、独立スコアは低下",
    "alarm.length": "回答の長さ（最初の評価に対する倍率）",
    "alarm.repetition": "繰り返し（割合の変化）",
    "alarm.uncertainty": "代理報酬の不確かさ（最初の評価に対する倍率）",
    "alarm.raised": "ステップ{step}で発報：{figure}",
    "alarm.quiet": "発報なし（ステップ{step}）：{figure}",
    "alarm.silent": "監視なし（測定されていません）",
    "alarm.figure": "{value}（限度 {limit}）",
    "alarm.figure.gap": "ステップ{since}からのスコアの変化 {value}",
    "advice.displacement": (
        "確率低下は兆候であり、証拠ではありません。独立スコアと回答を確認してください。悪化していれば、--eta を上げる、"
        "--max-displacement を設定する、または学習率を下げてください。"
    ),
    "advice.proxy-gap": (
        "代理指標は上昇、独立スコアは低下：学習は自分の尺度だけを改善し、回答は良くなっていません。以前のチェックポイント"
        "を使い（--select independent）、比較データを増やす、--beta を大きくする、または --max-displacement を設定して"
        "ください。"
    ),
    "advice.length": (
        "長さ：長い（短い）回答が本当に望まれているか確認してください。選ばれた応答のほうが長い場合、比較データが長さを"
        "教えた可能性があります。"
    ),
    "advice.repetition": ("繰り返しは劣化です。回答を読み、以前のチェックポイントを使うか、学習率を下げてください。"),
    "advice.uncertainty": (
        "不確かさ：報酬がよく知らない回答を方策が書いています。そのような回答の比較を集めるか、悲観的な集約で学習して"
        "ください。"
    ),
    "compared.caption": "共通する{count}件のプロンプトでの最終スコアの比較",
    "compared.note": "各区間の水準は{confidence}%です。すべての組を合わせて95%になるようにしています。",
    "compared.pair": "{best}と{other}",
    "compared.head.pair": "比較",
    "compared.head.first": "前者",
    "compared.head.second": "後者",
    "compared.head.difference": "差（プロンプトごとの対応あり）",
    "compared.head.seen": "結果",
    "compared.higher": "{best}が高い",
    "compared.same": "差は確認できない",
    # answers
    "answers.rule.scored": (
        "{total}件のプロンプトのうち{shown}件を、手で選ばず規則で選んで示します。独立スコアが最初の評価から最後の評価"
        "までにどれだけ変わったか（各学習の平均）の順に並べ、最も上がったものから最も下がったものまで等間隔に取ってい"
        "ます。1つのプロンプトに複数の回答があるときは、最初のものを示します。"
    ),
    "answers.rule.unscored": (
        "{total}件のプロンプトのうち{shown}件を、手で選ばず規則で選んで示します。回答の内容と無関係な識別子（ハッシュ"
        "）の順に並べ、等間隔に取っています。1つのプロンプトに複数の回答があるときは、最初のものを示します。"
    ),
    "answers.verbatim": (
        "回答はモデルの出力のままで、誤りや不適切な内容を含むことがあります。見えない制御文字はコードで示しています。"
    ),
    "answers.none": "回答の記録が見つかりません。",
    "answers.prompt": "プロンプト {number}／{count}",
    "answers.change": "スコアの変化 {change}",
    "answers.before": "学習前",
    "answers.before_run": "学習前（{run}）",
    "answers.at": "{run}（ステップ{step}）",
    "answers.score": "スコア {score}",
    "answers.mean": "{count}回答の平均 {score}",
    "answers.no_score": "スコアなし",
    "answers.unfinished": "長さの上限で打ち切り",
    "answers.absent": "このプロンプトへの回答は記録されていません。",
    "answers.empty": "（空の回答）",
    "answers.cut": "このページでは省略しています。残り{count}文字は学習フォルダーにあります。",
    "role.system": "システム",
    "role.user": "ユーザー",
    "role.assistant": "アシスタント",
    # settings
    "settings.caption": "記録された設定",
    "settings.differ": "学習によって異なる行には≠を付けています。",
    "settings.name": "設定",
    "meaning.title": "設定が実際に意味すること",
    "meaning.caption": "SFT項の働く強さ",
    "meaning.note": (
        "均衡マージン：選ばれた応答に対して、選好損失とSFT項の引く力が等しくなる学習報酬のマージンです。これを下回る"
        "間は選好損失が優勢です。トークンあたりの実効重み：平均的な長さの選ばれた応答の1トークンが、SFT項を通して損失"
        "に占める重みです。"
    ),
    "peers.caption": "{run}：ほかの学習ツールで最も近い設定",
    "peers.trainer": "ツール",
    "peers.setting": "設定",
    "peers.differs": "残る違い",
    "engine.caption": "対数確率の計算方式",
    "engine.run": "学習",
    "engine.engine": "方式",
    "engine.reason": "理由",
    "data.caption": "{run}：データの行の内訳",
    "data.caption.all": "全学習共通：データの行の内訳",
    "data.file": "ファイル",
    "data.sha256": "SHA-256",
    "data.form": "形式",
    "data.rows": "読み込んだ行",
    "data.kept": "使用した行",
    "data.dropped": "除いた行",
    "data.duplicates": "重複（残したもの）",
    "data.comparisons": "比較の数",
    "data.prompts_opening": "異なる最初の発話",
    "data.longer_won": "長い応答が選ばれた比較の割合",
    "data.reason": "除いた理由",
    "data.count": "行数",
    "data.where": "最初の該当行",
    "data.dropped.caption": "{run}：除いた行",
    "data.missing": "{run}：データの報告が見つかりません。",
    "data.chosen": "学習のために選んだもの（以下の数はすべてこの中で数えたもの）",
    "data.truncated": "一部だけ使用した行",
    "data.checks.caption": "使用した行について調べたこと",
    "data.check": "調べたこと",
    "data.found": "件数",
    "check.exact": "まったく同じ行の重複（プロンプト・応答・比較が同じ）",
    "check.same": "プロンプトと応答が同じ別の行",
    "check.contradictory_within": "勝敗が互いに矛盾する応答の組（1行の中）",
    "check.contradictory_across": "勝敗が互いに矛盾する応答の組（異なる行の間）",
    "check.wordless": "文字も数字も含まない応答のある行",
    "check.folded": "大文字小文字・全角半角・空白だけが違う応答の行",
    "check.near": "ほぼ同じ応答を比べた行",
    "check.email": "メールアドレスらしいもの",
    "check.phone": "電話番号らしいもの",
    "check.turns": "長さの上限のため古い発話を除いた行",
    "check.cut": "長さの上限で応答を切った行",
    "data.says.longer": (
        "長さの異なる応答の比較で長い方が選ばれた割合は、{n}行の平均で{share}です（95%区間 {low}〜{high}）。50%から大き"
        "く離れていると、モデルは意図された違いの代わりに長さを学ぶことがあります。"
    ),
    "data.says.noise": (
        "ラベルの誤り：逆向きのラベルの割合は{share}と推定されます（95%区間 {low}〜{high}）。2回以上比べられた応答の組"
        "{pairs}組（比較は計{labels}回）で、ラベルどうしが食い違う確率は{disagree}でした。すべてのラベルが同じ確率で独立"
        "に誤ると仮定しています。行が写しの場合も一致として数えています。"
    ),
    "data.says.no_noise": (
        "同じ2つの応答を2回以上比べた例がないため、ラベルの誤りは推定できません。一部を別の人にもう一度比べてもらって"
        "ください。"
    ),
    "data.says.near": (
        "「ほぼ同じ」とは類似度が{threshold}以上のことです。類似度は、大文字小文字・全角半角・空白をそろえたうえで、一"
        "方の応答を他方に変えるのに要る最少の挿入・削除の数を両方の長さの和で割り、1から引いたものです。"
    ),
    "data.says.personal": (
        "個人情報らしさは形だけで判断しています。メールアドレスはその書式、電話番号は{regions}で有効な番号か国番号付き"
        "の番号です。人名や住所は探していません。"
    ),
    "data.says.tokens": (
        "トークンは{model}のものです。プロンプトと応答の上限：{limit}。それより長い行の扱い：{on_long}。"
    ),
    "data.no_limit": "なし",
    "data.length": "長さ",
    "data.bin": "{low}〜{high}",
    "data.head": "{part}（中央値{median}、95%が{p95}以下）",
    "data.part.prompt": "プロンプト",
    "data.part.chosen": "選択",
    "data.part.response": "応答",
    "data.part.rejected": "非選択",
    "data.lengths.characters": "長さ（文字数）",
    "data.lengths.tokens": "長さ（トークン数、学習に使う形）",
    "data.preview": "{row}行目をトークンで見たもの",
    "data.preview.note": (
        "マスク0は読むだけ、マスク1は対数確率を学習するトークンです。枠の太いトークンで回答が終わります。"
    ),
    "data.mask": "マスク{mask}",
    "data.omitted": "…ほか{n}個…",
    "data.cut": "長さの上限で切ったため、終わりのトークンはありません。",
    "coverage.title": "運用で受けるプロンプトをデータは覆っているか",
    "coverage.says": (
        "運用で受けるプロンプト{n}件のうち{share}は覆われていません（95%区間 {low}〜{high}）。データのどのプロンプトか"
        "らも{threshold}より離れています。この距離の内側に、データ自身のプロンプトの{level}は別の会話のプロンプトを持って"
        "います。両者の出どころが同じなら、覆われないのは約{rest}のはずです。"
    ),
    "coverage.how": (
        "距離は、{encoder}による文埋め込みのコサインを1から引いたもので、学習に使った{data}件の異なるプロンプトのうち最"
        "も近いものまでを測ります。比較の基準にはそのうち{baseline}件を使いました。運用で受けるプロンプト：{file}"
    ),
    "coverage.limits": (
        "近いプロンプトとは、この埋め込みで言い回しと話題が似ているものです。良い回答がデータにあるか、大事な点が比べら"
        "れているかは測っていません。区間は運用で受けるプロンプトについてのもので、距離の基準は与えられたものとしていま"
        "す。"
    ),
    "coverage.caution.unknown": (
        "埋め込みモデルはトークンの{share}を知りません。そこだけが違う文は同じに見えます。この言語の埋め込みモデルを "
        "--encoder で指定してください。"
    ),
    "coverage.caution.script": (
        "文字の{share}はラテン文字ではありませんが、この埋め込みモデルは英語用です。その部分の距離はほとんど意味を持ちま"
        "せん。この言語の埋め込みモデルを --encoder で指定してください。"
    ),
    "coverage.caution.cut": "プロンプトの{share}は埋め込みモデルの上限より長く、末尾だけを読みました。",
    "coverage.caution.few": "基準は{n}件のプロンプトだけによるため、境目の距離は不確かです。",
    "coverage.caption": "データの最も近いプロンプトまでの距離",
    "coverage.head": "{part}（中央値{median}）",
    "coverage.distance": "距離",
    "coverage.serving": "運用で受けるプロンプト",
    "coverage.baseline": "データ自身のプロンプト",
    "coverage.worst": "最も覆われていない運用プロンプトと、データで最も近いプロンプト",
    "coverage.served": "運用で受けるプロンプト",
    "coverage.nearest": "データで最も近いもの",
    "coverage.row": "{row}行目",
    "environment.title": "環境",
    "environment.caption": "記録されたバージョン・機器・ハッシュ",
    "environment.missing": "環境の記録がありません。",
    # methods
    "methods.independent": (
        "「独立」とは、スコアが学習に関わらないことです。学習はスコアを一切見ず、スコアは学習報酬から計算されません。"
        "ただし、スコアの確かさは採点方法次第で、採点基準そのものの隙を突かれることもあります。重要な判断には、人が回"
        "答を評価してください。"
    ),
    "methods.learned": (
        "学習報酬は学習自身の暗黙報酬で、ベータ×log（方策／参照モデル）です。その増加は、評価時点の方策で測った、その"
        "時点の回答の報酬から学習前の回答の報酬を引いたものです。"
    ),
    "methods.verdict": (
        "各学習の判定では、最終スコアをそれ以前のすべての評価と、プロンプトごとに対応させたt区間で比べます。m回の比較"
        "に対し水準は1 − 0.05 / mです（ボンフェローニ）。スコアの低下を「過剰最適化」、その間に学習の損失の平均も下が"
        "らなかった場合を「悪化」、低下がなく開始時を上回る場合を「改善」とします。判定は学習ごとに95%の水準で"
        "、全体での水準ではありません。"
    ),
    "methods.compare": (
        "学習どうしの比較では、全学習に共通するプロンプトの最終スコアを、プロンプトごとに対応させて比べます。3つ以上"
        "の場合は最もスコアの高いものをほかのそれぞれと比べます。最高のものを同じスコアから選んでいるため、全p組に対"
        "し水準を1 − 0.05 / pとします（ボンフェローニ）。"
    ),
    "methods.clustered": (
        "区間はプロンプト単位です。1つのプロンプトへの回答はまず平均し、プロンプトを独立な単位とします。区間が語るの"
        "は、同様のプロンプトに、ここで学習したモデルが答える場合のことです。割合・長さ・KLの区間は、取りうる値の端で"
        "切っています。評価用ペアの損失・マージン・ノルムは平均だけが記録されているため、区間はありません。"
    ),
    "methods.absence": (
        "「差は確認できない」は差がないという意味ではありません。区間が広ければ、差がある余地も残ります。"
    ),
    "methods.seed": (
        "各学習は1つの乱数シードでの1回の学習です。別のシード、別のデータ順序、別のデータで何が変わるかは、どの区間に"
        "も含まれていません。手法についての主張には、複数のシードが必要です。"
    ),
    "methods.symptom": (
        "ディスプレイスメント（選ばれた応答の対数確率の低下）は兆候であり、証拠ではありません。RPOのSFT項は定義上ここ"
        "に働くため、尺度としてRPOに有利です。そのため判定には使いません。"
    ),
    "methods.alarms": (
        "警報は毎回の評価で判定されます。各警報の水準は全評価の合計で1%なので、許容範囲を超える変化のない学習で五つの"
        "いずれかが発報する確率は高くても5%です。発報がないことは何の証明にもなりません。見逃しの頻度と警告の遅れは "
        "docs/alarms.md にあります。"
    ),
    "methods.kl": (
        "KLは回答のトークンにわたる和なので、長い回答ほど大きくなりえます。長さが大きく異なる学習の間では、KLの比較に"
        "注意が必要です。"
    ),
    "methods.quantised": (
        "モデル smollm2-135m は4ビット（Q4_1）の重みから復元したものです。元の SmolLM2-135M-Instruct に近いものの同じ"
        "ではないため、ここでの数値は元のモデルの数値ではありません。"
    ),
    "methods.filter": (
        "過剰最適化を抑える学習は、コンテンツフィルターではありません。問題が見つからなかった学習でも、有害な回答や誤"
        "った回答をすることがあります。"
    ),
    # observed
    "section.observed": "プロキシと独立スコア",
    "axis.sqrt_kl": "参照モデルからのKLの平方根、√nat",
    "panel.observed.independent": "独立スコア、出発点からの増分",
    "panel.observed.proxy": "プロキシ報酬、出発点からの増分",
    "panel.observed.held_out_member": "取り置きメンバー、出発点からの増分",
    "panel.best_of_n": "{run}：プロキシで選ぶbest-of-n、{prompts}プロンプトの平均",
    "figure.observed.title": "報酬モデルに見えるものと、見えないもの",
    "figure.observed.caption": (
        "読み方：右へ行くほど学習前のモデルから離れています。小さな数字はステップ、縦線は同じプロンプトでの変化の95%区"
        "間、破線は当てはめた形 d (α − β log d) です。独立スコアが下がり始めてもプロキシが上がり続けるのが過剰最適化で"
        "す。各図の単位はそのスコアのものです。"
    ),
    "figure.best_of_n.title": "n個の回答からプロキシで最良を選ぶ",
    "figure.best_of_n.caption": (
        "読み方：小さな数字はnです。各点は、n個のうちプロキシが最も好む回答のスコアの期待値で、1つのプールからの不偏推"
        "定、95%区間はプロンプトにわたるものです。KLは log n − (n − 1)/n で、上界です。2つのスコアの単位は別です。"
    ),
    "observed.source.independent": "独立スコア",
    "observed.source.proxy": "プロキシ",
    "observed.source.held_out_member": "取り置きメンバー",
    "observed.short.independent": "独立スコア",
    "observed.short.proxy": "プロキシ",
    "observed.form.best_of_n": "d (α − β d)",
    "observed.form.optimised": "d (α − β log d)",
    "observed.why.few_evaluations": "出発点から離れた評価が3回に満たないため、当てはめません",
    "observed.why.few_prompts": "すべての評価でスコアのあるプロンプトが2つに満たないため、当てはめません",
    "observed.why.no_start": "学習前のスコアがないため、増分を出せません",
    "observed.why.no_proxy": "プロキシのスコアがないため、説明すべき差がありません。",
    "observed.why.no_other": "プロキシ以外のスコアがないため、その差はわかりません。",
    "observed.peak.within": "{distance}（{low}～{high}）",
    "observed.peak.unsure": "不確か：{distance}（{low}～{high}）。ブートストラップ標本の{share}%で範囲内",
    "observed.peak.none": "{reach}までに頂点なし（ブートストラップ標本の{share}%にはある）",
    "observed.head.who": "スコア",
    "observed.head.form": "形",
    "observed.head.alpha": "α",
    "observed.head.beta": "β",
    "observed.head.residual": "残差",
    "observed.head.peak": "頂点の d = √KL",
    "observed.head.covariate": "共変量",
    "observed.head.coefficient": "1標準偏差に伴う差の変化",
    "observed.head.deviation": "その標準偏差",
    "observed.head.inflation": "分散拡大係数",
    "observed.fits.caption": "増分に当てはめた文献の形、95%区間はプロンプトにわたるもの",
    "observed.fits.note": (
        "これらの形は曲線の記述であり、法則ではありません。点は精度で重み付けし、区間はプロンプトを単位とし、評価の時点は"
        "固定して求めています。残差の単位はスコアのものです。"
    ),
    "observed.covariate.mean": "（差の平均）",
    "observed.covariate.kl": "回答に沿ったKL、nat",
    "observed.covariate.distance": "学習データからの距離、1 − コサイン",
    "observed.covariate.spread": "アンサンブルのばらつき",
    "observed.covariate.width": "信頼幅",
    "observed.gap.caption": "{run}：プロキシの差と、分布のずれ・不確かさ",
    "observed.gap.says": (
        "差は、学習前の回答の標準偏差で測ったプロキシ引く{against}です。{prompts}プロンプトの{samples}サンプル、R² "
        "{r_squared}。"
    ),
    "observed.gap.absent": "測っていない、一定、または他から決まるもの：{names}。",
    "observed.gap.joint": "",
    "observed.gap.limits": (
        "最小二乗法、区間はプロンプトでクラスター化しています。原因の分解ではありません。ずれと不確かさは学習とともに一緒に"
        "増え、どちらの測定にも誤差があり、測っていないものが両方の背後にあることもあります。"
    ),
    "observed.caution.few_prompts": "係数あたりのプロンプトが10に満たないため、区間は狭すぎると考えてください。",
    "observed.caution.entangled": "共変量が互いに決まるため（分散拡大係数が10超）、単独では読めません。",
    "observed.stale": (
        "診断が別のサンプルのものなので省きました：{runs}。safetyvalve diagnose をもう一度実行してください。"
    ),
}
