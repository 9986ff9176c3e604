"""Formulas, code and Markdown as HTML, each by its library."""

import functools
import re

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

_LIGHT, _DARK = "xcode", "github-dark"  # Pygments' styles


def formula(latex: str, *, block: bool = False) -> Markup:
    """LaTeX as MathML; a word in \\mathrm as one identifier, where the library makes each letter one."""
    made = convert(latex, display="block" if block else "inline")
    letters = r"(?:<mi mathvariant=\"normal\">\w</mi>){2,}"

    def word(found: re.Match[str]) -> str:
        return f"<mi>{''.join(re.findall(r'>(.)<', found[0]))}</mi>"

    return Markup(re.sub(letters, word, made))


def statement(latex: str) -> Markup:
    """What a claim states, its equations one by one: a narrow page sets them below each other."""
    *others, last = latex.split(r",\quad")
    return Markup("\n").join(formula(part, block=True) for part in (*(f"{part}," for part in others), last))


def code(text: str, language: str) -> Markup:
    """Highlighted code, in a box that scrolls; plain where Pygments does not know the language."""
    try:
        inside = Markup(highlight(text, get_lexer_by_name(language), HtmlFormatter(nowrap=True)))
    except ClassNotFound:
        inside = escape(text)
    return Markup('<pre class="code" tabindex="0"><code>{}</code></pre>').format(inside)


def code_styles() -> Markup:
    """The colours of `code`, for a light page and for a dark one."""
    light, dark = (_style(name) for name in (_LIGHT, _DARK))
    return Markup(f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}")


def _style(name: str) -> str:
    """The rules of a style for what stands in a token: the page has its own background."""
    rules = HtmlFormatter(style=name).get_style_defs(".code").splitlines()
    return "\n".join(re.sub(r"\s*/\*.*?\*/", "", rule) for rule in rules if re.match(r"\.code \.\w", rule))


@functools.cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("table")


def markdown(text: str) -> Markup:
    """Markdown as HTML: tables in boxes that scroll, and of links to files the words alone."""
    made = _markdown().render(text)
    made = re.sub(r'<a href="(?!https?://|#)[^"]*">(.*?)</a>', r"\1", made)
    made = made.replace("<table>", '<div class="wide" tabindex="0"><table>').replace(
        "</table>", "</table></div>"
    )
    return Markup(made)
