from apps.providers.contract import Ticket


def test_a_ticket_survives_being_kept_in_a_row() -> None:
    ticket = Ticket('odd "id" \u20ac')
    assert Ticket.from_json(ticket.to_json()) == ticket
