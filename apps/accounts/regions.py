"""Countries by their ISO 3166-1 alpha-2 codes: where a team is, and where a model may not be used."""

from collections.abc import Iterable
from typing import Any, Final

from django.core.exceptions import ValidationError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ISO 3166-1, officially assigned codes.
COUNTRIES: Final = _words(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC
    CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD
    GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH
    KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW
    MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC
    SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY
    UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
    """
)
# Licences that leave out "the European Union" mean its members.
EU: Final = _words("AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK")


def validate_country(value: str) -> None:
    if value not in COUNTRIES:
        raise ValidationError(f"{value!r} is no ISO 3166-1 code of a country, e.g. DE")


def validate_regions(value: Any) -> None:
    known = COUNTRIES | {"EU"}
    if not isinstance(value, list) or not all(isinstance(code, str) and code in known for code in value):
        raise ValidationError('a list of ISO 3166-1 codes or EU, e.g. ["EU", "GB"]')


def includes(listed: Iterable[str], country: str) -> bool:
    """Whether the country is in the list, by itself or as a member of the EU."""
    return country in listed or ("EU" in listed and country in EU)
