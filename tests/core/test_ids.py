"""Row ids: their layout, and their order."""

from apps.core import clock, ids


def test_an_id_is_a_version_7_of_its_moment() -> None:
    before = clock.now()
    made = ids.uuid7()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert ids.since(before) <= made
    assert made.int >> 80 <= int(clock.now().timestamp() * 1000)


def test_ids_of_one_millisecond_keep_the_order_they_were_made_in() -> None:
    made = [ids.uuid7() for _ in range(1000)]
    assert len({one.int >> 80 for one in made}) < len(made), "some share a millisecond"
    assert made == sorted(made)
