"""Every class of prompts that the canonicaliser merges, said from its own tables: nothing else is merged."""

from collections.abc import Iterator
from dataclasses import dataclass

from apps.caching.canonical.lexicon import lexicon


@dataclass(frozen=True, slots=True)
class Collision:
    """`left` and `right` have the same canonical form; `rule` says why."""

    rule: str
    left: str
    right: str


def classes() -> Iterator[Collision]:
    """One pair for each row of the lexicon and each rule of order."""
    known = lexicon()
    for article in sorted(known.articles):
        yield Collision("article", f"{article} red fox on {article} hill", "red fox on hill")
    for auxiliary in sorted(known.auxiliaries):
        yield Collision("auxiliary before a participle", f"the fox {auxiliary} running", "fox running")
        yield Collision("auxiliary before a preposition", f"the fox {auxiliary} on a hill", "fox on hill")
        yield Collision("there is", f"there {auxiliary} foxes on a hill", "foxes on hill")
        for pronoun in sorted(known.pronouns):
            yield Collision("relative clause", f"foxes {pronoun} {auxiliary} running", "foxes running")
    for phrase in sorted(known.wrappers):
        yield Collision("wrapper", f"an {' '.join(phrase)} a fox", "fox")
    for phrase in sorted(known.requests):
        yield Collision("request", f"{' '.join(phrase)} a fox", "a fox")
    for word, number in sorted(known.numbers.items()):
        yield Collision("number", f"{word} foxes", f"{number} foxes")
    for word, lemma in sorted(known.lemmas.items()):
        yield Collision("spelling", f"old {word} here", f"old {lemma} here")
    for relation, name in sorted(known.relations.items()):
        first = next(other for other, same in known.relations.items() if same == name)
        yield Collision("relation", f"fox {' '.join(relation)} tree", f"fox {' '.join(first)} tree")
    for one, other in sorted(known.converses.items()):
        here = next(phrase for phrase, name in known.relations.items() if name == one)
        there = next(phrase for phrase, name in known.relations.items() if name == other)
        yield Collision("converse", f"fox {' '.join(here)} tree", f"tree {' '.join(there)} fox")
    for name in sorted(known.symmetric):
        text = " ".join(next(phrase for phrase, same in known.relations.items() if same == name))
        yield Collision("either way round", f"fox {text} tree", f"tree {text} fox")
    for style in sorted(known.styles):
        text = " ".join(style)
        yield Collision("style", f"{text} of a fox", f"a fox, {text}")
        yield Collision("style", f"{text}, a fox", f"a fox, {text}")
    for time in sorted(known.times):
        yield Collision("time of day", f"{time} over the ocean", f"the ocean at {time}")
    for head in sorted(known.whole_picture_heads):
        yield Collision("tags of the whole picture", f"a fox, {head}, 4k", f"a fox, 4k, {head}")
    yield Collision("list", "a red fox and a blue bird", "a blue bird and a red fox")
    yield Collision("list", "a fox, a bird, and a cat", "a cat, a bird and a fox")
    yield Collision("comma before and", "a fox, a bird, and a cat here", "a fox, a bird and a cat here")
    yield Collision("and", "a fox & a bird in a tree", "a fox and a bird in a tree")
    yield Collision("quotation marks and end", "a sign “Stop”.", 'a sign "Stop"')
    yield Collision("case, where the model ignores it", "A Red FOX", "a red fox")
