"""Answers of a model as HTML that can do nothing: no script, no link that opens, no image, nothing invisible."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline.state_inline import Delimiter, StateInline
from markdown_it.token import Token
from markupsafe import Markup, escape

__all__ = ["render", "render_plain"]

LONGEST_MARKDOWN = 20_000
"""Characters; a longer text is shown whole, but plain: what it costs to parse must not be the model's choice."""

_CHUNK = 8_000
_TAGS = {
    *("p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "span"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}
# Controls except tab and newline, direction overrides and isolates, line separators, tag characters. Joiners and
# direction marks stay: Persian, Hebrew and emoji need them, and they reach no further than a letter.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2028\u2029\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_SHOWN = re.compile("⟦U\\+([0-9A-F]{4,6})⟧")


def _link_open(self: RendererHTML, tokens: list[Token], index: int, *_: object) -> str:
    return '<span class="link">'


def _link_close(self: RendererHTML, tokens: list[Token], index: int, *_: object) -> str:
    depth, place = 0, index
    while place >= 0:  # the opening token holds the address
        depth += (tokens[place].type == "link_close") - (tokens[place].type == "link_open")
        if depth == 0:
            break
        place -= 1
    return f'</span> <code class="address">{escape(str(tokens[place].attrGet("href") or ""))}</code>'


def _image(self: RendererHTML, tokens: list[Token], index: int, *_: object) -> str:
    token = tokens[index]
    return (
        f'<span class="link">[{escape(token.content)}]</span> '
        f'<code class="address">{escape(str(token.attrGet("src") or ""))}</code>'
    )


def _asterisks(state: StateInline, silent: bool) -> bool:
    """Emphasis beside Chinese and Japanese, which put no spaces around it: ``は**「これ」**です`` is bold.

    CommonMark asks for a space or punctuation before an opening run that punctuation follows; here a wide character
    does as well, and likewise after a closing run. See https://github.com/tats-u/markdown-cjk-friendly.
    """
    if silent or state.src[state.pos] != "*":
        return False
    end = state.pos
    while end < state.posMax and state.src[end] == "*":
        end += 1
    before = state.src[state.pos - 1] if state.pos else " "
    after = state.src[end] if end < state.posMax else " "
    if not (_is_wide(before) or _is_wide(after)):
        return False
    opens = not after.isspace() and (not _is_punctuation(after) or before.isspace() or _ends_word(before))
    closes = not before.isspace() and (not _is_punctuation(before) or after.isspace() or _ends_word(after))
    for _ in range(end - state.pos):
        state.push("text", "", 0).content = "*"
        state.delimiters.append(Delimiter(ord("*"), end - state.pos, len(state.tokens) - 1, -1, opens, closes))
    state.pos = end
    return True


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


def _ends_word(character: str) -> bool:
    return _is_wide(character) or _is_punctuation(character)


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    parser.inline.ruler.before("emphasis", "asterisks", _asterisks)
    parser.disable("reference")  # definitions of links are not shown, so that an answer could hide its words in them
    for name, rule in (("link_open", _link_open), ("link_close", _link_close), ("image", _image)):
        parser.add_render_rule(name, rule)
    return parser


_PARSER = _parser()


@lru_cache(maxsize=512)
def render(text: str) -> Markup:
    """Markdown as HTML. Links and images are text with their address beside it: an opened link would tell the outside
    who judges what, and an image could be a beacon."""
    if len(text) > LONGEST_MARKDOWN:
        return _plain(text)
    environment: dict[str, object] = {}
    tokens = _PARSER.parse(_visible(text), environment)
    if any(token.level >= _PARSER.options["maxNesting"] - 2 for token in tokens):
        return _plain(text)  # what is nested deeper than this is dropped
    html = nh3.clean(
        _PARSER.renderer.render(tokens, _PARSER.options, environment),
        tags=_TAGS,
        attributes={"span": {"class"}, "code": {"class"}, "ol": {"start"}},
        url_schemes=set(),
        link_rel=None,
    )
    # Wide code and tables scroll sideways, which a keyboard can do only where they take the focus.
    html = html.replace("<pre>", '<pre tabindex="0">').replace("<table>", '<table tabindex="0">')
    return Markup(_SHOWN.sub(r'<span class="code-point">U+\1</span>', html))


def render_plain(text: str) -> Markup:
    """A text as it is, escaped."""
    return Markup(_SHOWN.sub(r'<span class="code-point">U+\1</span>', str(escape(_visible(text)))))


def _visible(text: str) -> str:
    return _INVISIBLE.sub(lambda m: f"⟦U+{ord(m[0]):04X}⟧", text.replace("\r\n", "\n"))


def _plain(text: str) -> Markup:
    """In pieces, so that the browser lays out only those in sight."""
    pieces = []
    while text:
        cut = text.rfind("\n", _CHUNK // 2, _CHUNK) + 1 if len(text) > _CHUNK else len(text)
        cut = cut or _CHUNK
        pieces.append(text[:cut])
        text = text[cut:]
    return Markup("").join(Markup('<div class="plain">{}</div>').format(render_plain(p)) for p in pieces)
