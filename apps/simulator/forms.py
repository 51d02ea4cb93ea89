"""Multipart forms, read with the standard library's MIME parser."""

from email.parser import BytesParser
from email.policy import HTTP

from apps.simulator.door import Refusal


def fields(content_type: str, raw: bytes) -> dict[str, bytes]:
    """Field or file → its bytes. Raises Refusal."""
    if not content_type.startswith("multipart/form-data"):
        raise Refusal(415, "content-type: must be multipart/form-data")
    head = f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: binary\r\n\r\n".encode()
    form = BytesParser(policy=HTTP).parsebytes(head + raw)
    found = {}
    for part in form.iter_parts() if form.is_multipart() else ():
        content = part.get_payload(decode=True)
        name = part.get_param("name", header="content-disposition")
        if isinstance(name, str) and isinstance(content, bytes):
            found[name] = content
    return found
