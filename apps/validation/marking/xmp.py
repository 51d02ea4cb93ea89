"""The XMP property `Iptc4xmpExt:DigitalSourceType`, written into a file without touching its pixels or samples.

XMP Specification Part 3 (Adobe, 2020) says where each format keeps it: PNG an iTXt chunk, JPEG an APP1 segment, WebP
and WAV a RIFF chunk, MP4 a uuid box.
"""

import struct
import zlib
from collections.abc import Callable
from typing import Final

SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
PACKET: Final = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()
_UUID_BOX: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_VP8X_HAS_XMP: Final = 0x04
_VP8X_HAS_ALPHA: Final = 0x10


def add(content: bytes, media_type: str) -> bytes:
    """The file with the property; unchanged if it has it, or if its format keeps no XMP. Raises ValueError for a file
    that is not of its type."""
    writer = _WRITERS.get(media_type)
    if writer is None or SOURCE_TYPE.encode() in content:
        return content
    try:
        return writer(content)
    except (struct.error, IndexError) as error:
        raise ValueError(f"not {media_type}") from error


def is_in(content: bytes, media_type: str) -> bool:
    return media_type in _WRITERS and SOURCE_TYPE.encode() in content


def _png(content: bytes) -> bytes:
    """Right after IHDR, which is always 25 bytes long behind the signature."""
    data = b"iTXt" + b"XML:com.adobe.xmp\0\0\0\0\0" + PACKET
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return content[:33] + chunk + content[33:]


def _jpeg(content: bytes) -> bytes:
    """After the JFIF or Exif segment, which readers want first."""
    at = 2
    while content[at : at + 2] in (b"\xff\xe0", b"\xff\xe1"):
        at += 2 + int(struct.unpack_from(">H", content, at + 2)[0])
    data = b"http://ns.adobe.com/xap/1.0/\0" + PACKET
    return content[:at] + b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data + content[at:]


def _webp(content: bytes) -> bytes:
    """The extended format announces it in its first chunk; the simple one has to become extended."""
    body = content[12:]
    extended = body if body[:4] == b"VP8X" else _extended(body) + body
    announced = extended[:8] + bytes([extended[8] | _VP8X_HAS_XMP]) + extended[9:]
    return _riff(b"WEBP", announced + _chunk(b"XMP ", PACKET))


def _extended(body: bytes) -> bytes:
    if body[:4] == b"VP8L":
        (bits,) = struct.unpack_from("<I", body, 9)
        width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    else:
        across, down = struct.unpack_from("<HH", body, 14)
        width, height, alpha = (across & 0x3FFF) - 1, (down & 0x3FFF) - 1, 0
    flags = _VP8X_HAS_ALPHA if alpha else 0
    return _chunk(
        b"VP8X", struct.pack("<I", flags) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
    )


def _wav(content: bytes) -> bytes:
    return _riff(b"WAVE", content[12:] + _chunk(b"_PMX", PACKET))


def _riff(form: bytes, body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(body) + 4) + form + body


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _mp4(content: bytes) -> bytes:
    """At the end, where it moves nothing that the index points to."""
    return content + struct.pack(">I", 24 + len(PACKET)) + b"uuid" + _UUID_BOX + PACKET


_WRITERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "image/png": _png,
    "image/jpeg": _jpeg,
    "image/webp": _webp,
    "audio/wav": _wav,
    "audio/mp4": _mp4,
    "video/mp4": _mp4,
}
