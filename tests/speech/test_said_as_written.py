"""What reaches the engine is what was sent, for sixty texts of the kinds that users send."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from greenroom.adapter import ModelSpec, TTSAdapter
from greenroom.audio.frames import AudioChunk
from greenroom.speech.text import is_sayable
from tests.speech.test_sentence_borders import assert_as_written, split

RATE = 16_000

NUMBERS = [
    "2*3*4 = 24.",
    "Pi is 3.14159, e is 2.71828; 1,000,000.50 is more.",
    "Call +1 (555) 010-9999 ext. 12, or 0800 123 456.",
    "On 2026-11-28 at 14:05:09 it was -3.5 °C. In 1984. It was 12.",
    "IV. Henry the 8th, 1st, 2nd, 3rd and ½, ¾, 10⁻³.",
]
UNITS = [
    "It is 5 km, 3.2 kg, 12 m², 60 mph, 220 V~, 5 µF, 3 Ω.",
    "$5, €3.50, £1.20, ¥300, 5% and 3‰. 100 $!",
    'A 4K 60 Hz 27" screen is 61 cm x 35 cm, 6\'2" tall.',
    "1 GB/s @ 2.4 GHz. 16 GiB. 5 l/100 km.",
]
ABBREVIATIONS = [
    "Dr. Smith met Mr. and Mrs. Jones at St. Mary's, e.g. The Chapel.",
    "See Fig. 3. See also eq. 4, pp. 5 ff., vol. 2, no. 7, i.e. All of it, etc. The end.",
    "The U.S. Army, the U.K., N.A.T.O. and NASA; J. R. R. Tolkien. Ph.D. students.",
    "At 3 p.m. She left. At 7 a.m. Monday he came.",
    "z. B. Katzen, d. h. Tiere, usw. Am 3. Oktober bzw. am 1. Mai.",
]
LINKS = [
    "Go to https://example.org/a/b.html?q=Some+Thing&x=1#Top. Then stop.",
    "Mail first.last+tag@sub.example.org or A.B@example.org! Now.",
    "ftp://user:pass@host:21/~home/*.tar.gz and www.example.org/index.php?A",
    "File C:\\Temp\\*.txt or /usr/lib/python3.11/site-packages/_x_.py. Done.",
]
MATHEMATICS = [
    "f(x) = x^2 + 3*x - 5; f'(x) = 2*x + 3.",
    "a*b*c ≠ a**b, 5! = 120. If x < 3 && y > 4. Then |x| ≤ ∞.",
    "$\\sum_{i=1}^{n} i = \\frac{n(n+1)}{2}$. Q.E.D.",
    "∀ε>0 ∃δ>0: |x−a|<δ ⇒ |f(x)−f(a)|<ε.",
]
CODE = [
    'Run `rm *.txt` and `ls **/*.py`. Then `git commit -m "x."`.',
    "```python\ndef f(*args, **kwargs):\n    return args[0] * 2  # Twice.\n```",
    "if (a != b) { return x?.y!; } /* Comment. */ // More.",
    "SELECT * FROM t WHERE a = 'B. C.' AND d LIKE '%e_'; DROP TABLE x;",
    "print(\"Hello. World!\")\n\n\n\tprint(f'{x!r}')\n",
    '<p class="a">Hello. <b>World</b>!</p> &amp; &lt;3',
    '{"key": ["a. B", 1.5, null], "*": "**"}',
]
LISTS = [
    "1. Preheat the oven\n2. Mix\n3. Bake at 180. Then wait.",
    "You need:\n- eggs\n- milk\n\n* **flour**\n* *sugar*\n  • salt",
    "* one\n* two\n*three*\n\n***\n\n---\n\n+ four",
    "a) First. b) Second.\nc. Third\niv. Fourth\n10) Tenth",
    "# Title\n\n## Part *one*\n\n> Quoted. Text.\n\n[link](https://a.b/c_d_e) ![x](y)",
    "| a | b |\n|---|:-:|\n| *1* | 2. |\n",
]
QUOTES = [
    '"Stop!" he said. "Why?" She didn\'t know. \'Really?\' "Yes."',
    "„Halt!“, rief er. »Nein.« « Oui. » ‹Non›. “So.” ‘It is.’",
    "(He left. (She stayed.) [Really!]) {Yes.}",
    'She said ("Oh no!") And left...\n"...and so?" — "Well…"',
]
EMOJI = [
    "Great! 😀 Then go. 👍🏽 👨‍👩‍👧‍👦 Family. 🇩🇪 Flag!",
    "I ❤️ it. ☺ :-) ;) <3 ^_^ *smiles* _winks_ ~waves~",
    "✅ Done. ❌ Not done. ➡️ Next. 1️⃣ First. ©2026 ™ ®",
]
SCRIPTS = [
    "你好。再见！“好。”他说……我不知道。「はい。」と言った。元気ですか？はい！",
    "नमस्ते।आप कैसे हैं। ठीक॥ १. पहला २. दूसरा",
    "مرحبا. كيف حالك؟ أنا بخير، شكرا۔ والسلام!",
    "שלום. מה שלומך? טוב.",
    "Привет. Как дела? Ул. Пушкина, д. 5. Т. е. Хорошо. Это им. Горького.",
    "Γεια σου; Καλά. Ναι!",
    "สวัสดีครับ ผมชื่อสมชาย ยินดีที่ได้รู้จัก",
    "안녕하세요. 반갑습니다! 네? 1. 하나 2. 둘",
    "Ça va ? Très bien ! « Oui. » Voilà : c'est tout…",
    "¿Qué tal? ¡Muy bien! ¿Y tú?... Bien.",
    "Բարև։ Ինչպե՞ս ես։ ሰላም። እንዴት ነህ።",
    "e\u0301te\u0301. Zalgo\u0300\u0301\u0302! \u202bעברית\u202c. Soft\u00adhyphen.\u200b\u00a0X.",
]
LONG = [
    " ".join(f"Word{i} *and* number {i}." for i in range(100)),
    " ".join(f"word{i}" for i in range(400)),
    "wort" * 400,
    "字" * 400 + "。" + "字" * 900,
    "Lorem *ipsum* 3.5 dolor, e.g. Sit! " * 57,
    "  \n\n  Spaces   before,\tbetween \u2003 and after.  Twice.   \n\n ",
]
TEXTS = [
    *(*NUMBERS, *UNITS, *ABBREVIATIONS, *LINKS, *MATHEMATICS, *CODE),
    *(*LISTS, *QUOTES, *EMOJI, *SCRIPTS, *LONG),
]


class Hearing(TTSAdapter):
    """Keeps what it is given to say."""

    concurrency = 1
    sample_rate = RATE

    def __init__(self) -> None:
        super().__init__(ModelSpec("hearing", Hearing))
        self.heard: list[str] = []

    def load(self) -> None:
        """Load nothing."""

    def unload(self) -> None:
        """Unload nothing."""

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        self.heard.append(text)
        yield AudioChunk(np.full(320, 0.5, np.float32), RATE)


async def pieces(text: str, length: int) -> AsyncIterator[str]:
    for at in range(0, len(text), length):
        yield text[at : at + length]


async def heard(text: str | AsyncIterator[str]) -> list[str]:
    engine = Hearing()
    async for _ in engine.synthesize_stream(text, sample_rate=RATE):
        pass
    return engine.heard


def test_there_are_sixty_texts_and_none_twice() -> None:
    assert len(set(TEXTS)) == len(TEXTS) == 60


@pytest.mark.parametrize("text", TEXTS)
async def test_what_reaches_the_engine_is_what_was_sent(text: str) -> None:
    whole = await heard(text)
    sentences = split(text)
    assert_as_written(sentences, text)
    assert whole == [sentence for sentence in sentences if is_sayable(sentence)]
    for length in (1, 4, 31):
        assert await heard(pieces(text, length)) == whole
