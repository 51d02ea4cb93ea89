"""Paths under /v1/."""

from django.urls import path

from apps.ledger import views

urlpatterns = [
    path("budget", views.BudgetView.as_view(), name="budget"),
    path("usage", views.Usage.as_view(), name="usage"),
    path("usage/entries", views.UsageEntries.as_view(), name="usage-entries"),
    path("statements/<str:month>", views.Statement.as_view(), name="statement"),
]
