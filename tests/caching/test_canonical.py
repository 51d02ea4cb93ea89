"""Tier 2: certain rewordings of a prompt have one form, and different pictures never do."""

from collections import Counter

import pytest
from django.core.management import call_command

from apps.caching.canonical import collisions, form
from apps.caching.canonical.lexicon import lexicon
from tests.caching import negatives

SAME = [
    ("sunset over ocean", "ocean at sunset"),
    ("a cat, oil painting", "oil painting of a cat"),
    ("a dog to the left of a car", "car right of the dog"),
    ("a bird above a lake", "a lake below a bird"),
    ("two cats and three dogs", "3 dogs and 2 cats"),
    ("please draw a fox", "A fox."),
    ("create a picture showing the old town", "old town"),
    ("a man who is holding a book", "man holding book"),
    ("there are twenty-one birds on a wire", "21 birds on wire"),
    ("a grey sofa", "gray couch"),
    ("a fox, 4k, highly detailed", "fox, highly detailed, 4k"),
    ("A Café   at night", "cafe at night"),
]
DIFFERENT = [
    ("a cat", "cats"),
    ("a cat", "one cat"),
    ("hate", "a hat"),
    ("a man eating shark", "a man-eating shark"),
    ("vitamin A", "vitamin"),
    ("show jumping", "jumping"),
    ("a photo of a fox", "a fox"),
    ("old men and women", "women and old men"),
    ("twenty one", "20 1"),
    ("a dog or a cat", "a dog and a cat"),
    ("a cat, black, a dog, white", "a cat, white, a dog, black"),
    ("a man and a dog that is running", "a man and a dog that are running"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_rewordings_have_one_form(one: str, other: str) -> None:
    assert form.of(one) == form.of(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_pictures_have_another_form(one: str, other: str) -> None:
    assert form.of(one) != form.of(other)


@pytest.mark.timeout(300)
def test_no_hard_negative_of_thousands_shares_a_form() -> None:
    served, total = [], Counter[str]()
    for kind, one, other in negatives.pairs():
        total[kind] += 1
        if form.of(one) == form.of(other):
            served.append((kind, one, other))
    assert served == []
    assert total.total() >= 5000, total


@pytest.mark.parametrize(
    "prompt",
    [
        "ein Hund und eine Katze",
        "un perro con una gata",
        "собака и кошка",
        "二匹の猫",
        "a cat (masterpiece:1.3)",
        "a cat --ar 16:9",
        "<lora:x> a cat",
        "a [cat|dog]",
        'an unclosed "quotation',
    ],
)
def test_what_is_not_plain_english_is_left_as_it_is(prompt: str) -> None:
    assert form.of(prompt) == f"={prompt.lower()}"


def test_words_to_be_spoken_are_never_reworded() -> None:
    assert form.of("there are two cats", kind="audio") == "=there are two cats"


def test_a_model_that_minds_case_gets_its_case() -> None:
    assert form.of("a Dog", case_sensitive=True) != form.of("a dog", case_sensitive=True)
    assert form.of("The Dog", case_sensitive=True) == form.of("the Dog", case_sensitive=True)


def test_a_negative_prompt_is_a_set_of_tags() -> None:
    assert form.negative("blurry, extra fingers") == form.negative("extra fingers, blurry, blurry")
    assert form.negative("blurry") != form.negative("not blurry")


@pytest.mark.parametrize("each", list(collisions.classes()), ids=lambda each: f"{each.rule}: {each.left}")
def test_every_listed_class_is_merged(each: collisions.Collision) -> None:
    assert form.of(each.left) == form.of(each.right)


def test_the_command_lists_the_classes(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("cache_collisions")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list(collisions.classes())) >= 100


def test_no_lemma_leads_to_another() -> None:
    lemmas = lexicon().lemmas
    assert not set(lemmas) & set(lemmas.values())
    assert not set(lemmas) & set(lexicon().numbers)
    # Plurals are other pictures.
    assert not {word for word in lemmas if lemmas[word] in (word + "s", word.removesuffix("s")) and word}
