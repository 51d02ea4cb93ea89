"""What is delivered: pictures, sounds and films made from an order alone, the same bytes every time."""
