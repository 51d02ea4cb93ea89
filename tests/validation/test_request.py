"""A prompt is refused before it costs anything, or passed on as it was meant."""

import time
import unicodedata

import pytest

from apps.core.errors import InvalidRequest
from apps.validation import request


@pytest.mark.parametrize(
    ("prompt", "normalised"),
    [
        ("a red bicycle", "a red bicycle"),
        ("  a red\tbicycle\n\n", "a red\tbicycle"),
        ("line one\r\nline two", "line one\nline two"),
        ("cafe\u0301", "café"),
        ("x² ﬁn Ⅳ ①", "x² ﬁn Ⅳ ①"),
        ("一只红色的自行车", "一只红色的自行车"),
        ("دراجة حمراء", "دراجة حمراء"),
        ("สวัสดีที่นี่ น้ำ", "สวัสดีที่นี่ น้ำ"),
        ("Tiếng Việt", "Tiếng Việt"),
        ("हिन्दी क्षत्रिय", "हिन्दी क्षत्रिय"),
        ("בְּרֵאשִׁ֖ית בָּרָ֣א", unicodedata.normalize("NFC", "בְּרֵאשִׁ֖ית בָּרָ֣א")),
        ("👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽", "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽"),
        ("<script>alert(1)</script> =1+1 {{x}}", "<script>alert(1)</script> =1+1 {{x}}"),
        ("a" * 10_000, "a" * 10_000),
        ("🎨", "🎨"),
        ("?", "?"),
    ],
)
def test_a_prompt_in_any_script_passes(prompt: str, normalised: str) -> None:
    assert request.normalise(prompt) == normalised
    assert request.normalise(normalised) == normalised


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("", "blank"),
        ("   \n\t", "blank"),
        ("\u3000\u2003\u00a0", "blank"),
        ("\u200b\u200d\ufeff", "blank"),
        ("\u0301", "blank"),
        ("a\x00b", "control_characters"),
        ("a\x1b[31mb", "control_characters"),
        ("a\rb", "control_characters"),
        ("a\x7fb", "control_characters"),
        ("a\x85b", "control_characters"),
        ("a\ud800b", "invalid_unicode"),
        ("\udfff", "invalid_unicode"),
        ("a" + "\u0301" * 9, "combining_marks"),
        ("Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334algo", "combining_marks"),
        ("a" * 10_001, "too_long"),
        ("\u0301" * 1_000_000, "too_long"),
    ],
)
def test_a_prompt_that_cannot_be_meant_is_refused(prompt: str, code: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InvalidRequest) as refused:
        request.normalise(prompt)
    error = refused.value.extra["errors"][0]
    assert (error["field"], error["code"]) == ("prompt", code)
    assert time.perf_counter() - started < 0.5
