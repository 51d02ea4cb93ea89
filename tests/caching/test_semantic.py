"""Tier 3's parts: vectors, veto and guard, and what a labelled file says of them."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.caching.semantic import embedders, guard, verdicts, vocabulary
from apps.caching.semantic.embedders import EmbedderUnavailable
from tests.fakes.receiver import Receiver

SAME = [
    ("a man holding a book on a park bench", "a man is holding a book on a park bench"),
    ("A dining table with cakes and a tv monitor", "A dining table with a TV monitor and cakes."),
    ("a red sports car on the road", "a red sports automobile on the road"),
    ("A black cat is sitting in a bathroom sink.", "The black cat is inside the bathroom sink."),
    ("Two women have stopped to pet the sheep.", "To pet the sheep, the two women have stopped."),
    ("a small table with a lamp on it", "A lamp is on a small table."),
    # A copula, a passive, an existential "has", clauses in another order, a vague number, an adverb, a relation twice.
    ("A bridled horse stands in front of a barn.", "A barn is behind a horse that is bridled."),
    ("People are watching a tall player.", "A tall player is being observed by people."),
    ("A white house has a cow standing outside of it.", "A cow is standing outside of a white house."),
    ("A cat stares at a screen while a man reads.", "A man is reading while a cat stares at a screen."),
    ("several zebras in a field", "a group of zebras is in a field"),
    ("Elephants are marching slowly through a field.", "Elephants march slowly through a field."),
    ("two dogs sitting next to each other", "two dogs sit side by side"),
]
OTHER = [
    ("a red car", "a blue car", "lost"),
    ("3 cats", "5 cats", "numbers"),
    ("two red cats and three blue dogs", "three red cats and two blue dogs", "bindings"),
    ("a dog chasing a cat", "a cat chasing a dog", "roles"),
    ("a man with a hat", "a man without a hat", "negations"),
    ('a sign "open"', 'a sign "closed"', "quotes"),
    ("a green rose and a blue tulip", "a blue rose and a green tulip", "bindings"),
    ("a cat behind a sofa", "a cat in front of a sofa", "roles"),
    ("a cat on a sofa", "a cat beside a sofa", "replaced_relations"),
    ("two dogs sitting on a bench", "two dogs standing on a bench", "postures"),
    ("a cat on a chair", "cats on a chair", "plurals"),
    ("a fox in the snow", "a cartoon of a fox in the snow", "lost"),
    ("London in 1920", "London in 2020", "numbers"),
    # Exchanged, and reworded as well: no frame of words is left to compare.
    ("a woman watches while a man holds a bat", "a woman holds a bat while a man watches", "exchanged"),
    (
        "a person sits on a block and a statue is on a bench",
        "a person is on a bench and a statue sits on a block",
        "exchanged",
    ),
    ("some meat on a plate and donuts in a box", "some meat in a box and donuts on a plate", "exchanged"),
    ("two pots on top of a stove", "two pots with a stove on top of them", "roles"),
    ("a man is feeding an elephant", "a man is being fed by an elephant", "roles"),
    ("girls wash a bike while men look on", "men are being washed by girls while a bike looks on", "roles"),
    ("several cows and a horse", "a cow and several horses", "plurals"),
    ("several sheep in a field", "a sheep in a field", "plurals"),
    ("two birds over a bunch of waves", "a bunch of birds over two waves", "bindings"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_means_the_same_passes(one: str, other: str) -> None:
    verdict = guard.judge(one, other, 0.95)
    assert verdict.vetoes == ()
    assert verdict.served


@pytest.mark.parametrize(("one", "other", "veto"), OTHER)
def test_what_is_another_picture_is_vetoed_at_any_similarity(one: str, other: str, veto: str) -> None:
    verdict = guard.judge(one, other, 0.999)
    assert veto in verdict.vetoes
    assert not verdict.served


def test_what_is_not_similar_enough_is_not_served_whatever_its_words() -> None:
    assert not guard.judge(*SAME[0], guard.current().floor - 0.01).served


def test_the_order_of_the_two_prompts_does_not_matter() -> None:
    for one, other, *_ in [*SAME, *OTHER]:
        assert guard.judge(one, other, 0.95).served == guard.judge(other, one, 0.95).served


def test_a_word_is_a_base_of_its_own_inflections_only() -> None:
    assert "hat" not in vocabulary.bases("hate") | vocabulary.bases("hated") | vocabulary.bases("hating")
    assert vocabulary.bases("riding") & vocabulary.bases("rides")
    assert vocabulary.bases("running") & vocabulary.bases("run")


def test_one_wrong_verdict_switches_a_kind_of_difference_off_and_right_ones_on_again() -> None:
    prior = 400
    assert verdicts.upper_bound(0, prior) <= 0.01 < verdicts.upper_bound(1, prior + 1)
    assert verdicts.upper_bound(1, prior + 170) <= 0.01
    # The upper end of Wilson's interval for 1 of 10 (Newcombe, 1998, method 3, gives 0.0179 to 0.4042).
    assert verdicts.upper_bound(1, 10) == pytest.approx(0.4042, abs=1e-4)


def test_hard_negatives_are_reworded_by_the_paraphrases_of_their_prompt() -> None:
    from apps.caching.semantic import train

    rows = [
        {"prompt_a": one, "prompt_b": other, "label": label, "kind": kind, "source": "SugarCrepe++/swap_obj"}
        for one, other, label, kind in [
            ("a dog chases a cat", "a cat is chased by a dog", "1", "pos_human"),
            ("a dog chases a cat", "a cat chases a dog", "0", "neg_swap_obj"),
            ("a red car", "a blue car", "0", "neg_color_replace"),
        ]
    ]
    (found,) = train.reworded(rows)
    assert (found["prompt_a"], found["prompt_b"]) == ("a cat is chased by a dog", "a cat chases a dog")
    assert (found["label"], found["kind"]) == ("0", "neg_swap_obj")


# --- Embedders --------------------------------------------------------------------------------


def test_the_model_gives_the_vectors_that_sentence_transformers_gives() -> None:
    from apps.caching.semantic import minilm

    texts = ["This is an example sentence", "Each sentence is converted"]
    one, other = minilm.shared().embed(texts)
    # The first numbers of sentence-transformers/all-MiniLM-L6-v2 for its model card's example.
    assert one[:3] == pytest.approx((0.0676569, 0.0634959, 0.0487131), abs=2e-6)
    assert other[:3] == pytest.approx((0.0864386, 0.1027626, 0.0053946), abs=2e-6)
    assert math.hypot(*one) == pytest.approx(1, abs=1e-5)


def test_a_vector_does_not_depend_on_what_is_embedded_with_it() -> None:
    from apps.caching.semantic import minilm

    alone = minilm.shared().embed(["a red car"])[0]
    together = minilm.shared().embed(["a red car", "a fox in the snow at the edge of a very dark wood"])[0]
    assert together == pytest.approx(alone, abs=1e-5)


def test_nothing_configured_is_no_embedder(settings: Any) -> None:
    settings.EMBEDDER = ""
    assert embedders.configured() is None


@pytest.fixture
def door() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening


def test_an_endpoint_that_answers_nonsense_is_unavailable(door: Receiver) -> None:
    endpoint = embedders.Endpoint(door.url, key="secret", model="some-model")
    with pytest.raises(EmbedderUnavailable), endpoint:
        endpoint.embed(["a red car"])
    asked = door.wait_for(1)[0]
    assert asked.path == "/embeddings"
    assert asked.headers["authorization"] == "Bearer secret"
    assert b'"input"' in asked.body


# --- The evaluation ---------------------------------------------------------------------------


def test_the_evaluation_says_what_each_tier_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pairs.tsv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out, delimiter="\t")
        writer.writerow(["prompt_a", "prompt_b", "label", "kind", "source"])
        writer.writerows([*[(*pair, 1, "reworded", "hand") for pair in SAME]])
        writer.writerows([(one, other, 0, "other", "hand") for one, other, _ in OTHER])
    call_command("semantic_eval", str(file))
    lines = {line.split("  ")[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["other other"][-4:] == ["0.00"] * 4
    assert lines["precision, %"][-4:] == ["100.000"] * 4
    recalls = [float(text) for text in lines["recall (served of the same), %"][-4:]]
    assert recalls[0] == 0 < recalls[1] <= recalls[2] <= recalls[3] == 100


def test_the_evaluation_refuses_a_file_without_the_columns(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("a\tb\n1\t2\n")
    with pytest.raises(CommandError, match="prompt_a"):
        call_command("semantic_eval", str(file))
