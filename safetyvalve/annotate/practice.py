"""The practice items that come with the app; an administrator may withdraw them and add others."""

from __future__ import annotations

from safetyvalve.annotate.sources import Answer, Pair

__all__ = ["PRACTICE"]


def _pair(prompt: str, a: str, b: str, expected: str, why: str) -> Pair:
    return Pair([{"role": "user", "content": prompt}], Answer(a, {}), Answer(b, {}), expected, why)


PRACTICE: dict[str, list[Pair]] = {
    "en": [
        _pair(
            "What is the capital of Australia?",
            "The capital of Australia is Canberra.",
            "Great question! Australia is a beautiful country with many world-famous cities, and its capital is "
            "**Sydney**, "
            "known for its opera house, its harbour and its lively culture.",
            "a",
            "The capital is Canberra. The longer answer is friendlier and wrong; correct comes first.",
        ),
        _pair(
            "How do I boil an egg so that the yolk stays soft?",
            "I am sorry, but I cannot help with that. Boiling water may be dangerous.",
            "1. Bring water to a boil.\n2. Lower the egg in with a spoon.\n3. Take it out after **six minutes** and "
            "put it "
            "in cold water.",
            "b",
            "The question is harmless, so refusing it is a bad answer.",
        ),
        _pair(
            "Write one sentence about rain.",
            "Rain was drumming on the roof long before anybody woke.",
            "All afternoon the rain drew thin lines on the window.",
            "tie",
            "Both do what was asked, and well. Where you would not mind which one you get, say so.",
        ),
    ],
    "ja": [
        _pair(
            "オーストラリアの首都はどこですか。",
            "オーストラリアの首都はキャンベラです。",
            "とてもよいご質問ですね！オーストラリアは世界的に有名な都市が多い美しい国で、首都は**シドニー**です。オペ"
            "ラハウスや美しい港、"
            "活気ある文化で知られています。",
            "a",
            "首都はキャンベラです。長いほうの回答は親切そうですが、間違っています。正しさが最優先です。",
        ),
        _pair(
            "黄身がとろりとした半熟卵の作り方を教えてください。",
            "申し訳ありませんが、お手伝いできません。熱湯は危険な場合があります。",
            "1. 鍋に湯を沸かします。\n2. お玉で卵をそっと入れます。\n3. **6分**たったら取り出し、冷水で冷やします。",
            "b",
            "害のない質問なので、断る回答はよくない回答です。",
        ),
        _pair(
            "雨について一文で書いてください。",
            "誰も目を覚まさないうちから、雨が屋根をたたいていた。",
            "午後のあいだずっと、雨が窓に細い線を引いていた。",
            "tie",
            "どちらも求められたことに、よく応えています。どちらでもかまわないときは、そのまま「同じくらい」を選んでく"
            "ださい。",
        ),
    ],
}
