"""Ops' pages: users, teams, tiers, and keys that are issued and revoked but never shown again."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from apps.accounts import keys
from apps.accounts.models import ApiKey, Team, Tier, User
from apps.core.admin import ModelAdmin

if TYPE_CHECKING:  # generic in the stubs only
    BaseUserAdmin = DjangoUserAdmin[Any]
    KeyForm = forms.ModelForm[ApiKey]
else:
    BaseUserAdmin = DjangoUserAdmin
    KeyForm = forms.ModelForm

ROTATION_OVERLAP_S = 24 * 3600

admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass


@admin.register(User)
class UserAdmin(BaseUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "team", "tier", "timezone", "is_active", "is_staff")
    list_filter = ("tier", "is_active", "is_staff")
    list_select_related = ("team", "tier")
    search_fields = ("username", "email", "team__name")
    autocomplete_fields = ("team", "tier")
    _platform: Any = ("Platform", {"fields": ("team", "is_team_admin", "tier", "timezone")})
    fieldsets = (*(DjangoUserAdmin.fieldsets or ()), _platform)
    add_fieldsets = (*DjangoUserAdmin.add_fieldsets, _platform)


@admin.register(Team)
class TeamAdmin(ModelAdmin):
    list_display = ("name", "region", "is_commercial", "created_at")
    list_filter = ("is_commercial",)
    search_fields = ("name",)
    readonly_fields = ("created_at",)


@admin.register(Tier)
class TierAdmin(ModelAdmin):
    list_display = (
        "name",
        "monthly_budget_usd",
        "requests_per_minute",
        "concurrency",
        "max_open_jobs",
        "max_batch_items",
        "max_quality",
        "prefers_cheapest",
    )
    search_fields = ("name", "slug")

    def get_readonly_fields(self, request: HttpRequest, obj: Tier | None = None) -> tuple[str, ...]:
        return ("slug",) if obj else ()


class IssueForm(KeyForm):
    scopes = forms.MultipleChoiceField(
        choices=ApiKey.Scope.choices,
        initial=ApiKey.Scope.values,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )

    class Meta:
        model = ApiKey
        fields = ("user", "name", "scopes", "expires_at")

    def clean_user(self) -> User:
        user: User = self.cleaned_data["user"]
        if user.team_id is None:
            raise forms.ValidationError("This user has no team: a key would open nothing.")
        return user


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    """Adding is issuing: the key appears once, in the message. After that it can only be ended."""

    form = IssueForm
    list_display = ("prefix", "name", "user", "scopes", "created_at", "expires_at", "revoked_at")
    list_filter = ("scopes",)
    list_select_related = ("user",)
    search_fields = ("prefix", "name", "user__username")
    autocomplete_fields = ("user",)
    actions = ("revoke", "rotate")
    date_hierarchy = "created_at"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # a key that was used stays known; it is revoked

    def has_end_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("accounts.change_apikey"))

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        issued = ("prefix", "created_at", "revoked_at") if obj else ()
        return ("user", "name", "scopes", "expires_at", *issued)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        key, text = keys.issue(obj.user, name=obj.name, scopes=obj.scopes, expires_at=obj.expires_at)
        obj.pk = key.pk
        obj.refresh_from_db()
        self._show_once(request, key, text)

    @admin.action(description="Revoke", permissions=["end"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        ended = [key for key in queryset if keys.revoke(key)]
        for key in ended:
            self.log_change(request, key, "revoked")
        self.message_user(request, f"{len(ended)} keys revoked")

    @admin.action(description="Rotate: a successor now, the old key ends in 24 hours", permissions=["end"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for old in queryset:
            try:
                new, text = keys.rotate(old, overlap_s=ROTATION_OVERLAP_S)
            except keys.KeyEnded as error:
                self.message_user(request, error.detail, messages.WARNING)
                continue
            self.log_change(request, old, f"rotated, successor {new.prefix}…")
            self._show_once(request, new, text)

    def _show_once(self, request: HttpRequest, key: ApiKey, text: str) -> None:
        self.message_user(
            request, f"{key.name}: {text} (copy it now, it is not shown again)", messages.WARNING
        )
