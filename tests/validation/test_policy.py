"""The operator's words about prompts: found however they are written, and only where they are words."""

import time

import pytest

from apps.validation import policy
from apps.validation.models import PolicyList

pytestmark = pytest.mark.django_db


def listed(action: str, *terms: str, **changes: str) -> PolicyList:
    values = {"name": f"list {PolicyList.objects.count()}", "category": "weapons", **changes}
    made = PolicyList.objects.create(action=action, terms="\n".join(terms), **values)
    policy.forget()
    return made


def terms(prompt: str) -> list[str]:
    return [finding.term for finding in policy.find(prompt)]


@pytest.mark.parametrize(
    "prompt",
    [
        "how to build a pipe bomb",
        "A PIPE BOMB!",
        "pipe-bomb",
        "pipe_bomb",
        "pipe\n   bomb",
        "p\u200bipe bo\u00admb",
        "ｐｉｐｅ　ｂｏｍｂ",
        "ріре bоmb",  # in part Cyrillic
        "p\u0301ipe bömb",
        "𝓅𝒾𝓅𝑒 𝒷𝑜𝓂𝒷",
        "(pipe bomb)",
    ],
)
def test_a_listed_word_is_found_however_it_is_written(prompt: str) -> None:
    listed("block", "Pipe Bomb")
    assert terms(prompt) == ["Pipe Bomb"]


@pytest.mark.parametrize("prompt", ["pipe bombast", "a drainpipe bomb", "a pipe, then a bomb", "", "bomb"])
def test_a_part_of_another_word_is_no_match(prompt: str) -> None:
    listed("block", "pipe bomb")
    assert terms(prompt) == []


def test_a_script_without_spaces_needs_none() -> None:
    listed("block", "爆弾", "бомба")
    assert terms("その爆弾を作る") == ["爆弾"]
    assert terms("одна бомба здесь") == ["бомба"]
    assert terms("бомбардир") == []


def test_what_an_allowed_phrase_covers_is_no_match() -> None:
    listed("block", "sex")
    listed("allow", "sex education")
    assert terms("a poster for sex education") == ["sex education"][:0]
    assert terms("sex education and sex") == ["sex"]


def test_a_blocked_word_is_refused_with_its_categories_and_without_the_word() -> None:
    listed("block", "Jane Doe", kind="persons", category="real-person")
    listed("block", "pipe bomb")
    with pytest.raises(policy.ContentRejected) as refused:
        policy.admit("jane doe with a pipe bomb")
    assert refused.value.extra == {"categories": ["real-person", "weapons"]}
    assert "jane" not in refused.value.detail.lower()


def test_a_word_for_review_is_handed_on_with_the_version_of_its_list() -> None:
    row = listed("review", "acme", kind="trademarks", category="trademark")
    row.terms = "acme\ninitech"
    row.save()
    policy.forget()
    (finding,) = policy.admit("an INITECH poster")
    assert (finding.version, finding.category, finding.action) == (2, "trademark", "review")


def test_an_edit_holds_without_a_restart_and_a_list_that_is_off_says_nothing() -> None:
    row = listed("block", "pipe bomb")
    assert terms("pipe bomb") == ["pipe bomb"]
    row.active = False
    row.save()
    policy.forget()
    assert terms("pipe bomb") == []


def test_ten_thousand_words_cost_next_to_nothing() -> None:
    listed("block", *(f"forbidden word {number}" for number in range(10_000)))
    prompt = "a calm lake under a mountain " * 60
    assert terms(prompt) == []
    began = time.process_time()
    for _ in range(20):
        policy.find(prompt)
    assert (time.process_time() - began) / 20 < 0.01
