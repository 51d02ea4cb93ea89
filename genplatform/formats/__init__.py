"""How times are written in the admin: exactly, and so that they sort."""
