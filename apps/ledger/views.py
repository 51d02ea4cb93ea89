"""The API over money: what remains, what was used, what was booked. Users see themselves, team admins their team."""

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts import caller
from apps.accounts.models import ApiKey, Team
from apps.core import clock, inputs, money
from apps.core.errors import InvalidRequest, NotFound, PermissionDenied
from apps.core.schemas import problems
from apps.ledger import monthly, reports, schemas, statements
from apps.ledger.models import Entry

READ = ApiKey.Scope.JOBS_READ.value
MAX_DAYS = 366
_DEFAULT_SIZE, _MAX_SIZE = 50, 200
_SCOPE = OpenApiParameter("scope", str, enum=["user", "team"], description="`team`: for team admins")


class BudgetView(APIView):
    """What remains of the caller's month, and of every other cap that a job must fit."""

    scopes = {"GET": READ}

    @extend_schema(summary="See what remains", responses={200: schemas.Budget, **problems()})
    def get(self, request: Request) -> Response:
        asker = caller.required(request)
        caps = statements.caps(user_id=asker.user_id, timezone=asker.timezone)
        job = caps.max_job_usd
        return Response(
            {
                **_cap(caps.user_month),
                "caps": {
                    "user_month": _cap(caps.user_month),
                    "user_day": _cap(caps.user_day) if caps.user_day else None,
                    "team_month": _cap(caps.team_month) if caps.team_month else None,
                    "max_job_usd": None if job is None else money.text(job),
                },
                "warnings": [_warning(warning) for warning in statements.warnings(asker.user_id)],
            }
        )


class Usage(APIView):
    """Jobs, cost and savings by day, model, provider, user or cache; days are those of each user's time zone."""

    scopes = {"GET": READ}
    parameters = [
        OpenApiParameter("group_by", str, enum=reports.GROUPS, description="`day` by default"),
        OpenApiParameter("from", date, description="First day; by default the first of this month"),
        OpenApiParameter("to", date, description="Last day, included; by default today"),
        _SCOPE,
    ]

    @extend_schema(
        summary="Add up usage", parameters=parameters, responses={200: schemas.Usage, **problems(403, 422)}
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        inputs.only(query, ("group_by", "from", "to", "scope"))
        asker = caller.required(request)
        group_by = inputs.one_of("group_by", query.get("group_by", "day"), reports.GROUPS)
        first, last = _days(query, today=clock.now().astimezone(ZoneInfo(asker.timezone)).date())
        return Response(reports.usage(_owner(asker, query), group_by=group_by, first=first, last=last))


class UsageEntries(APIView):
    """Every posting, newest first."""

    scopes = {"GET": READ}
    parameters = [
        OpenApiParameter("cursor", str, description="`next` of the page before"),
        OpenApiParameter("page_size", int, description=f"1 to {_MAX_SIZE}, {_DEFAULT_SIZE} by default"),
        OpenApiParameter("from", datetime, description="Posted at this time or later"),
        OpenApiParameter("to", datetime, description="Posted before this time"),
        OpenApiParameter("kind", str, enum=Entry.Kind.values),
        OpenApiParameter("reference", OpenApiTypes.UUID, description="The id of a job"),
        _SCOPE,
    ]

    @extend_schema(
        summary="List every posting",
        parameters=parameters,
        responses={200: schemas.EntryPage, **problems(403, 422)},
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        inputs.only(query, [parameter.name for parameter in self.parameters])
        size = inputs.size(query.get("page_size"), default=_DEFAULT_SIZE, most=_MAX_SIZE)
        wanted = reports.EntryFilter(
            from_at=inputs.time("from", query["from"]) if "from" in query else None,
            to_at=inputs.time("to", query["to"]) if "to" in query else None,
            kind=inputs.one_of("kind", query["kind"], Entry.Kind.values) if "kind" in query else None,
            reference=inputs.row_id("reference", query["reference"]) if "reference" in query else None,
            cursor=query.get("cursor"),
        )
        return Response(reports.entries(_owner(caller.required(request), query), wanted, size=size))


class Statement(APIView):
    """A month's statement, as JSON or, with `Accept: text/csv` or `?format=csv`, for a spreadsheet."""

    scopes = {"GET": READ}
    content_negotiation_class = inputs.AnyAccept
    parameters = [
        OpenApiParameter("month", str, OpenApiParameter.PATH, description="YYYY-MM"),
        OpenApiParameter("format", str, enum=["json", "csv"]),
        _SCOPE,
    ]

    @extend_schema(
        summary="Get a month's statement",
        parameters=parameters,
        responses={
            (200, "application/json"): schemas.Statement,
            (200, "text/csv"): str,
            **problems(403, 404, 422),
        },
    )
    def get(self, request: Request, month: str) -> HttpResponse:
        query = request.query_params
        inputs.only(query, ("format", "scope"))
        asker = caller.required(request)
        wants_csv = _wants_csv(request)
        owner = _owner(asker, query)
        timezone = asker.timezone if owner.scope == "user" else Team.objects.get(pk=asker.team_id).timezone
        found = monthly.statement(owner, _month(month, timezone), timezone=timezone)
        if not wants_csv:
            return Response(found.document())
        name = f'attachment; filename="statement-{owner.scope}-{month}.csv"'
        return HttpResponse(
            found.csv(), content_type="text/csv; charset=utf-8", headers={"Content-Disposition": name}
        )


def _owner(asker: caller.Caller, query: Mapping[str, str]) -> reports.Owner:
    """Raises PermissionDenied for the team of somebody who is not its admin."""
    if inputs.one_of("scope", query.get("scope", "user"), ("user", "team")) == "user":
        return reports.Owner("user", asker.user_id)
    if not asker.is_team_admin:
        raise PermissionDenied("Only a team's admins see what the whole team used.")
    return reports.Owner("team", asker.team_id)


def _days(query: Mapping[str, str], *, today: date) -> tuple[date, date]:
    last = inputs.day("to", query["to"]) if "to" in query else today
    first = inputs.day("from", query["from"]) if "from" in query else last.replace(day=1)
    if first > last:
        raise InvalidRequest.field("from", "should not be after `to`")
    if last - first >= timedelta(days=MAX_DAYS):
        raise InvalidRequest.field("from", f"should be at most {MAX_DAYS} days before `to`")
    return first, last


def _month(text: str, timezone: str) -> date:
    """The first day. Raises NotFound for a month that has not begun."""
    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", text) or text < "2000":
        raise InvalidRequest.field("month", "should be a month, YYYY-MM")
    first = date.fromisoformat(f"{text}-01")
    if first > clock.now().astimezone(ZoneInfo(timezone)).date():
        raise NotFound("This month has not begun.")
    return first


def _wants_csv(request: Request) -> bool:
    if "format" in request.query_params:
        return inputs.one_of("format", request.query_params["format"], ("json", "csv")) == "csv"
    return "text/csv" in request.headers.get("Accept", "")


def _cap(balance: statements.Balance) -> dict[str, Any]:
    return {
        "limit_usd": money.text(balance.limit_usd),
        "spent_usd": money.text(balance.spent_usd),
        "held_usd": money.text(balance.held_usd),
        "remaining_usd": money.text(balance.remaining_usd),
        "percent_used": None if balance.percent_used is None else money.text(balance.percent_used),
        "period": {"starts_at": balance.starts_at, "ends_at": balance.ends_at},
    }


def _warning(warning: statements.Warned) -> dict[str, Any]:
    return {
        "scope": warning.scope,
        "threshold": warning.threshold,
        "percent_used": int(warning.used_usd * 100 // warning.limit_usd),
        "used_usd": money.text(warning.used_usd),
        "limit_usd": money.text(warning.limit_usd),
        "at": warning.at,
    }
