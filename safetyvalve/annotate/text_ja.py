"""Messages of the Japanese pages."""

from __future__ import annotations

__all__ = ["GUIDELINE", "MESSAGES"]

GUIDELINE = """\
質問と2つの回答が表示されます。自分がその質問をしたとしたら、どちらの回答がほしいかを選んでください。

- **両方の回答を最後まで読んで**から選んでください。長いほうがよい回答とは限りません。
- **正しさが最優先**です。もっともらしくても間違った回答は、素っ気なくても正しい回答に劣ります。\
確信がないときは調べてください。ただし、チャットAIには聞かないでください。
- **役に立つか**：求められたことに、求められた言語と形式で答えていますか。
- **安全か**：人を傷つける手助けは、どれほどよく書けていても悪い回答です。\
害のない質問を断る回答も、よい回答ではありません。
- **「同じくらい」**は「どちらでもかまわない」、**「どちらもよくない」**は「どちらもほしくない」という意味です。
- 回答の書き手は表示されません。推測もしないでください。表示の順番は無作為です。

急ぐ必要はありません。投票は取り消せます。判断できないものは飛ばしてかまいません。\
いつでも中断でき、それまでの作業は保存されます。
"""

MESSAGES: dict[str, str] = {
    "brand": "safetyvalve",
    "skip_link": "本文へ",
    "again": "もう一度送信",
    "go_on": "続ける",
    "save": "保存",
    "answer": "回答{n}",
    "prompt": "質問",
    "minutes": "{n}分",
    # navigation
    "nav.main": "ページ",
    "nav.judge": "評価",
    "nav.guideline": "評価の基準",
    "nav.progress": "進み具合",
    "nav.results": "結果",
    "nav.admin": "バッチ",
    "nav.people": "参加者",
    "nav.items": "項目",
    "nav.sign_out": "サインアウト",
    # signing in
    "welcome.title": "回答の評価",
    "welcome.text": "参加するには、届いた招待リンクを開いてください。リンクは1回だけ使えます。",
    "invite.title": "招待を受け取りました",
    "invite.annotator": "2つの回答を見比べて、よいほうを選ぶ作業をお願いします。",
    "invite.reviewer": "評価の結果を確認できます。",
    "invite.admin": "このサーバーの管理者として、バッチ、参加者、結果を扱います。",
    "invite.accept": "招待を受けてサインイン",
    "invite.cookie": "リンクは1回だけ、このブラウザで使えます。サインインは14日間続きます。",
    "privacy.title": "保存される情報",
    "privacy.text": (
        "無作為に付けた名前、投票と修正の内容、それにかかった作業時間だけを保存します。氏名、住所、メールアドレス、IP"
        "アドレスは"
        "保存しません。サインインのためにCookieを1つ使います。保存された情報は「進み具合」からダウンロードできます。"
        "削除を"
        "希望するときは、無作為の名前を招待者に伝えてください。"
    ),
    # guideline
    "guideline.title": "評価の基準",
    "guideline.agree": "内容を読みました。不快な文章が表示される場合があることを理解しました。",
    "guideline.start": "練習を始める",
    "guideline.back": "評価に戻る",
    "guideline.edit": "最初の項目の前に、評価者全員に表示されます。Markdownで書けます。",
    "harm.title": "不快な文章が含まれる場合があります",
    "harm.text": (
        "回答は機械が書いたもので、暴力的、差別的、性的、または虚偽の内容を含む場合があります。最後まで読む必要はあり"
        "ません。"
        "飛ばすか、ほかの人の目に触れないように報告してください。いつでも休憩してください。"
    ),
    # judging
    "judge.title": "どちらの回答がよいですか",
    "judge.question": "どちらの回答がよいですか",
    "judge.practice": "練習です。結果には含まれません。選んだあとで、想定していた答えが表示されます。",
    "judge.revising": "この項目は評価済みです。新しい投票が前の投票に代わります。",
    "judge.count": "評価済み {n}件",
    "judge.saved": "保存しました。",
    "judge.late": (
        "直前の投票は時間切れのあとに届き、項目はすでにほかの人に渡っていました。投票は保存されましたが、集計されませ"
        "ん。"
    ),
    "judge.undo": "取り消す",
    "judge.correct": "回答を修正する",
    "judge.masked": "名前を伏せています",
    "judge.empty": "（回答は空です）",
    "judge.strength": "どのくらい差がありますか",
    "judge.tags": "よい点（複数選択可）",
    "judge.save": "保存して次へ",
    "judge.save_and_correct": "保存して修正",
    "judge.skip": "飛ばす",
    "judge.report": "報告",
    "choice.1": "回答1がよい",
    "choice.2": "回答2がよい",
    "choice.tie": "同じくらい",
    "choice.both_bad": "どちらもよくない",
    "choice.skip": "飛ばした",
    "short.1": "1",
    "short.2": "2",
    "short.tie": "同じ",
    "short.both_bad": "両方×",
    "strength.1": "少し",
    "strength.2": "はっきり",
    "strength.3": "大きく",
    "tag.correct": "正しい",
    "tag.helpful": "役に立つ",
    "tag.clear": "わかりやすい",
    "tag.safe": "安全",
    "tag.language": "言葉が自然",
    "role.user": "質問",
    "role.assistant": "前の回答",
    "role.system": "指示",
    "role.annotator": "評価者",
    "role.reviewer": "閲覧者",
    "role.admin": "管理者",
    "report.text": "ほかの人に見せるべきでない項目を報告してください。この項目は表示されなくなり、管理者が確認します。",
    "report.reason": "問題の内容（空欄でもかまいません）",
    "report.send": "報告して次へ",
    "send.lost": "接続できません。投票はこのブラウザに保存してあり、サーバーにつながり次第送信します。",
    "send.sending": "送信しています…",
    "send.sign_in": (
        "サインアウトしています。入力した内容はこのブラウザに保存してあります。新しいリンクでサインインすると送信され"
        "ます。"
    ),
    # keyboard
    "keys.title": "キーボード操作",
    "keys.strength": "少し、はっきり、大きく",
    "keys.tags": "よい点",
    "keys.undo": "直前の投票を取り消す",
    "keys.correction": "修正を保存する",
    "keys.leave": "入力欄から出る",
    "keys.on": "1文字のショートカットを使う",
    # practice
    "feedback.title": "練習",
    "feedback.right": "想定どおりの選択です",
    "feedback.other": "想定とは違う選択です",
    "feedback.expected": "想定していた答え：{choice}",
    "feedback.next": "次へ",
    "feedback.look": "もう一度見る",
    # corrections
    "correct.title": "回答の修正",
    "correct.lead": (
        "自分が送るならこう書く、という回答になるように、必要なところだけ直してください。学習の手本になります。"
    ),
    "correct.which": "修正する回答",
    "correct.text": "回答{n}の修正後の文章",
    "correct.save": "修正を保存",
    "correct.without": "修正せずに次へ",
    "corrected.title": "修正を保存しました",
    "corrected.lead": "{n}文字を変更しました。",
    "corrected.next": "次へ",
    "corrected.again": "もう一度修正する",
    # done and progress
    "done.title": "いま評価する項目はありません",
    "done.lead": "{n}件を評価しました。ありがとうございます。",
    "done.more": (
        "モデルの学習中は新しい回答が追加されます。あとでもう一度見るか、このまま閉じてください。作業は保存されていま"
        "す。"
    ),
    "done.look": "もう一度見る",
    "progress.title": "進み具合",
    "progress.judged": "評価済み",
    "progress.left": "残り",
    "progress.corrected": "修正",
    "progress.time": "作業時間",
    "progress.name": "あなたの無作為の名前は {name} です。",
    "progress.last": "最近の投票",
    "progress.question": "質問",
    "progress.vote": "投票",
    "progress.change": "変更",
    "progress.none": "まだありません。",
    "progress.mine": "自分について保存された情報をすべてダウンロード（JSON）",
    # results
    "results.title": "結果",
    "results.items": "完了した項目",
    "results.votes": "集計した投票",
    "results.agreement": "評価者間の一致",
    "results.self": "再評価での一致",
    "results.corrections": "修正",
    "results.equal": "回答が同一の{n}組は誰にも表示していません。引き分けとして数えてください。",
    "results.table": "比較ごとの投票",
    "results.pair": "先 対 後",
    "results.wins": "先の勝ち",
    "results.losses": "後の勝ち",
    "results.rate": "先の勝率",
    "results.prompts": "質問数",
    "results.note": (
        "勝率では「同じくらい」と「どちらもよくない」を0.5勝と数え、質問を単位とする95%区間を付けています。"
        "再評価、正解付き、時間切れ、飛ばした投票は含みません。"
        "すべての投票は `safetyvalve annotate export` で書き出し、`safetyvalve stats` で分析できます。"
    ),
    "results.none": "投票はまだありません。",
    "results.no_batch": "バッチはまだありません。",
    "results.annotators": "評価者",
    "results.nobody": "まだ誰も評価していません。",
    "annotators.name": "名前",
    "annotators.votes": "投票数",
    "annotators.side": "先に表示された回答を選択",
    "annotators.gold": "正解付きの正答",
    "annotators.self": "再評価で同じ",
    "annotators.agree": "他の人と一致",
    "annotators.seconds": "秒数（中央値）",
    "annotators.flags": "注意",
    "annotators.note": (
        "「注意」は確認のための目印で、これを理由に投票を除くことはありません。表示順：選択が半々から有意に偏っている"
        "（1%水準）。"
        "正答：5件以上のうち6割未満。速い：10票以上で作業時間の中央値が3秒未満。"
    ),
    "flag.side": "表示順",
    "flag.gold": "正答",
    "flag.fast": "速い",
    # administration
    "admin.batches": "バッチ",
    "admin.counts": "{items}件、うち完了{complete}件、評価中{open}件",
    "pairing.runs": "学習どうしの比較",
    "pairing.start": "学習前との比較",
    "pairing.samples": "同じモデルの回答どうしの比較",
    "pairing.file": "ファイルの回答どうしの比較",
    "rules.overlap": "1件あたりの評価者数",
    "rules.repeats": "再評価の割合",
    "rules.gold": "正解付きの間隔（件）",
    "rules.correct": "回答の修正を認める",
    "rules.open": "公開中",
    "admin.upload": "別の方法で作った回答を追加",
    "admin.upload_text": (
        "1行に1つの質問を書いたJSONLファイルです。想定する選択（a、b、tie、both_bad）があれば、正解付きの項目になりま"
        "す。"
    ),
    "admin.batch_name": "バッチの名前",
    "admin.file": "ファイル",
    "admin.add": "追加",
    "admin.added": "{n}件を追加しました。",
    "admin.changed": "保存しました。",
    "admin.reports": "報告",
    "admin.no_reports": "未対応の報告はありません。",
    "admin.show_item": "項目を表示",
    "admin.careful": "有害として報告された内容です。",
    "admin.withdraw": "項目を取り下げる",
    "admin.keep": "そのまま残す",
    "admin.export": "書き出し",
    "admin.export_text": (
        "`safetyvalve train` "
        "とTRLで読める選好データ、SFT用の修正、全投票のJSONLとCSV、目録を1つのzipにまとめます。モデル名が"
        "含まれます。"
    ),
    "admin.weigh": "重み",
    "weigh.vote": "1票を1とする",
    "weigh.item": "1項目を1とする",
    "weigh.gold": "正解付きの正答率による",
    "admin.download": "ダウンロード",
    "admin.head": (
        "イベントログの先頭値です。別の場所に控えておくと、`safetyvalve annotate verify` "
        "で履歴の書き換えを検出できます。"
    ),
    "people.invite": "招待",
    "people.role": "役割",
    "people.number": "人数",
    "people.days": "有効日数",
    "people.make": "リンクを作成",
    "people.roles": (
        "評価者は評価だけを行い、モデル名を見ることはありません。閲覧者は結果を見られます。管理者は評価以外のすべてを"
        "行えます。自分で"
        "評価するときは、別のブラウザで評価者用のリンクを開いてください。"
    ),
    "people.links": "新しいリンク",
    "people.once": "いま控えてください。保存されないため、再表示はできません。それぞれ1回だけ使えます。",
    "people.open": "未使用の招待",
    "people.no_invites": "ありません。",
    "people.expires": "有効期限",
    "people.revoke": "取り消す",
    "people.list": "参加者",
    "people.state": "状態",
    "people.active": "有効",
    "people.inactive": "停止",
    "people.you": "自分",
    "people.link": "新しいサインイン用リンク",
    "people.stop": "停止",
    "people.erase": "消去…",
    "people.erase_text": "この参加者の投票、修正、報告を完全に消去します。対象の項目は改めて評価されます。",
    "people.erase_yes": "{name}を消去",
    "people.erased": "消去しました。",
    "items.lead": "正解付きの項目は、注意深く読まれているかを確かめるために混ぜられます。",
    "items.votes": "{n}票",
    "items.expected": "想定する選択",
    "items.why": "理由",
    "items.make_gold": "正解付きにする",
    "items.withdrawn": "取り下げ済み",
    "items.restore": "元に戻す",
    "items.previous": "前へ",
    "items.next": "次へ",
    "kind.regular": "通常",
    "kind.gold": "正解付き",
    "kind.practice": "練習",
    # refusals
    "refused.title": "処理できませんでした",
    "refused.sign_in": "サインインしていません。届いた招待リンクを開くか、新しいリンクを依頼してください。",
    "refused.invite": "このリンクは使用済みか、期限切れか、取り消されています。新しいリンクを依頼してください。",
    "refused.role": "この役割では表示できないページです。",
    "refused.judge_role": (
        "モデル名を見られる人は評価できません。自分で評価するときは、別のブラウザで評価者用のリンクを開いてください。"
    ),
    "refused.csrf": (
        "フォームが古いか、別の場所から送られました。前のページを再読み込みして、もう一度送信してください。"
    ),
    "refused.not_found": "ページが見つかりません。",
    "refused.method": "このアドレスでは、その操作はできません。",
    "refused.no_assignment": "この項目はあなたに割り当てられていません。",
    "refused.other_content": "同じ番号で別の内容が保存されています。ページを再読み込みしてください。",
    "refused.not_editable": "この回答は修正できません。",
    "refused.correction_empty": "修正後の文章が空です。",
    "refused.correction_same": "文章が変更されていません。",
    "refused.correction_long": "修正後の文章が5万文字を超えています。",
    "refused.form": "入力が足りないか、使えない値が含まれています。",
    "refused.large": "送信された内容が大きすぎます。",
    "refused.busy": (
        "データベースが応答せず、何も保存されていません。入力した内容は残っています。もう一度送信してください。"
    ),
    "refused.used_item": "この項目はすでに配られています。正解付きにできるのは未使用の項目だけです。",
    "refused.last_admin": "自分自身を停止または消去することはできません。",
    "refused.error": "サーバーで問題が起きました。何も保存されていません。",
}
