"""The page on which ops put money right: an amount and a reason, with who did it on record."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django import forms
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextInputWidget

from apps.core import money
from apps.core.errors import DomainError


class CorrectionForm(forms.Form):
    amount_usd = forms.DecimalField(**money.AMOUNT, label="Amount, USD", widget=UnfoldAdminDecimalFieldWidget)
    reason = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget)


def page(
    model_admin: Any, request: HttpRequest, row: Model, *, title: str, act: Callable[[Decimal, str], str]
) -> HttpResponse:
    """Asks, then calls `act(amount_usd, reason)` in one transaction with the row's history, where its answer stands.

    What `act` refuses with ValueError or DomainError is shown, and nothing is changed.
    """
    form = CorrectionForm(request.POST or None)
    options = row._meta
    back = reverse(f"admin:{options.app_label}_{options.model_name}_change", args=[row.pk])
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                done = act(form.cleaned_data["amount_usd"], form.cleaned_data["reason"])
                model_admin.log_change(request, row, done)
        except (ValueError, DomainError) as refusal:
            form.add_error(None, str(refusal))
        else:
            model_admin.message_user(request, done)
            return redirect(back)
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": options,
        "title": title,
        "form": form,
        "back": back,
    }
    return TemplateResponse(request, "ledger/correction.html", context)
