"""Every delivered file says, readable by machines, that a model made it (EU AI Act, Article 50).

Twice: as an XMP property, which any tool reads and any tool removes, and as C2PA content credentials, which are signed
over the bytes, so that a change shows. Both are added last, after every other check, and then verified.
"""
