"""All settings of the deployment, read from the environment in one place.

Every variable is described in docs/reference/settings.md; a test fails when one is missing there.
Outside development (`DEBUG=1`) the secrets have no default: the process refuses to start without them.
"""

from decimal import Decimal
from pathlib import Path
from typing import Any

import environ
import structlog

from apps.core.telemetry import logs, tracing
from genplatform.unfold import UNFOLD as UNFOLD

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

DEBUG: bool = env.bool("DEBUG", default=False)
# A development secret is only a default in development: production must bring its own.
_DEV_SECRET = {"default": "development-only-secret-" + "0" * 40} if DEBUG else {}
SECRET_KEY: str = env.str("SECRET_KEY", **_DEV_SECRET)
API_KEY_PEPPER: str = env.str("API_KEY_PEPPER", **_DEV_SECRET)
WEBHOOK_SIGNING_KEY: str = env.str("WEBHOOK_SIGNING_KEY", **_DEV_SECRET)

# Where the world reaches us: provider webhooks and artifact links are built on it.
PUBLIC_URL: str = env.str("PUBLIC_URL", default="http://127.0.0.1:8000").rstrip("/")
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_results",
    "apps.core",
    "apps.accounts",
    "apps.ledger",
    "apps.catalog",
    "apps.providers",
    "apps.artifacts",
    "apps.caching",
    "apps.validation",
    "apps.webhooks",
    "apps.jobs",
    "apps.batches",
    "apps.ops",
]

MIDDLEWARE = [
    "apps.core.telemetry.logs.of_one_request",
    "django.middleware.security.SecurityMiddleware",
    # In development Django serves static files from where they are (genplatform/urls.py).
    *([] if DEBUG else ["whitenoise.middleware.WhiteNoiseMiddleware"]),
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "genplatform.urls"
WSGI_APPLICATION = "genplatform.wsgi.application"
APPEND_SLASH = False

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- Postgres ---------------------------------------------------------------------------------
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("DATABASE_URL", default="postgres://app@127.0.0.1:5432/genplatform")
}
# Threads share a pool; a prefork child has one connection of its own (Celery closes pools around each task).
DB_POOL_MAX: int = env.int("DB_POOL_MAX", default=10)
DATABASES["default"]["CONN_MAX_AGE"] = 0 if DB_POOL_MAX else 600
DATABASES["default"]["OPTIONS"] = {
    **DATABASES["default"].get("OPTIONS", {}),
    # A stopped Postgres must give a 503 within two seconds, a lost lock holder must not hold others.
    "connect_timeout": 2,
    "options": "-c lock_timeout=5s -c statement_timeout=15s -c idle_in_transaction_session_timeout=30s",
    # Statements are planned once per connection. Switch it off behind a transaction-pooling proxy.
    **({"server_side_binding": True, "prepare_threshold": 3} if env.bool("DB_PREPARE", default=True) else {}),
    **({"pool": {"min_size": 1, "max_size": DB_POOL_MAX, "timeout": 2}} if DB_POOL_MAX else {}),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis ------------------------------------------------------------------------------------
REDIS_URL: str = env.str("REDIS_URL", default="redis://127.0.0.1:6379").rstrip("/")
BROKER_URL: str = env.str("BROKER_URL", default=f"{REDIS_URL}/0")
# Rate limits, notifications and caches may be lost at any time; the broker has its own database.
CACHE_REDIS_URL: str = env.str("CACHE_REDIS_URL", default=f"{REDIS_URL}/1")
REDIS_TIMEOUT_S: float = env.float("REDIS_TIMEOUT_S", default=0.25)

# --- Celery -----------------------------------------------------------------------------------
CELERY_BROKER_URL = BROKER_URL
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True
CELERY_RESULT_EXPIRES = 7 * 86400
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_STORE_ERRORS_EVEN_IF_IGNORED = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_DEFAULT_QUEUE = "io"
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_SEND_SENT_EVENT = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_MAX_TASKS_PER_CHILD = env.int("WORKER_MAX_TASKS_PER_CHILD", default=5000)
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 5
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # A ring in the hands of a worker that is killed is lost, and the sweep rings again: no copy of each message is
    # kept in Redis until it is done. What a worker holds when it ends in peace it puts back.
    "ack_emulation": False,
    # One list for each queue instead of four: no ring is more urgent than another.
    "priority_steps": [0],
    "max_connections": 400,
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "queue_order_strategy": "priority",
}
# Threads give their connection back to the pool after each task: a hundred of them share a few. A prefork child,
# which has no pool, keeps its own.
CELERY_DB_REUSE_MAX = None if DB_POOL_MAX else 1000

# --- Web --------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "static"
STORAGES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": env.str("ARTIFACT_STORAGE", default="django.core.files.storage.FileSystemStorage"),
        "OPTIONS": env.json(
            "ARTIFACT_STORAGE_OPTIONS", default={"location": str(BASE_DIR / ".run/artifacts")}
        ),
    },
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedStaticFilesStorage"
    },
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
FORMAT_MODULE_PATH = "genplatform.formats"
USE_TZ = True

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]

_HTTPS = PUBLIC_URL.startswith("https://")
SECURE_SSL_REDIRECT = _HTTPS and env.bool("SSL_REDIRECT", default=True)
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("BEHIND_PROXY", default=False) else None
)
SECURE_HSTS_SECONDS = 31_536_000 if _HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _HTTPS
SECURE_HSTS_PRELOAD = _HTTPS
SECURE_CONTENT_TYPE_NOSNIFF = True
SESSION_COOKIE_SECURE = _HTTPS
CSRF_COOKIE_SECURE = _HTTPS
# An admin left alone for an hour is logged out; each request begins the hour anew. The API has no sessions.
SESSION_COOKIE_AGE = 3600
SESSION_SAVE_EVERY_REQUEST = True
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["apps.accounts.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["apps.accounts.permissions.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["apps.accounts.throttling.TierThrottle"],
    "DEFAULT_PARSER_CLASSES": ["apps.core.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "apps.core.inputs.JsonAccept",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "apps.core.api_errors.handle",
    "UNAUTHENTICATED_USER": None,
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "genplatform",
    "DESCRIPTION": "Run AI generation in production: submit a job, poll, stream or receive a signed webhook.",
    "VERSION": "1",
    # The schemas are pydantic's, in the JSON Schema of 3.1 (null as a type, examples).
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PUBLIC": True,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# --- The platform -----------------------------------------------------------------------------
# How each provider is reached: the fields of its adapter. A provider without a key is not called.
PROVIDERS: dict[str, dict[str, str]] = {
    "wavespeed": {
        "base_url": env.str("WAVESPEED_BASE_URL", default="https://api.wavespeed.ai"),
        "api_key": env.str("WAVESPEED_API_KEY", default=""),
        "webhook_secret": env.str("WAVESPEED_WEBHOOK_SECRET", default=""),
    },
    "replicate": {
        "base_url": env.str("REPLICATE_BASE_URL", default="https://api.replicate.com"),
        "api_key": env.str("REPLICATE_API_KEY", default=""),
        "webhook_secret": env.str("REPLICATE_WEBHOOK_SECRET", default=""),
    },
    "fal": {
        "base_url": env.str("FAL_BASE_URL", default="https://queue.fal.run"),
        "api_key": env.str("FAL_API_KEY", default=""),
        "jwks_url": env.str("FAL_JWKS_URL", default="https://rest.fal.ai/.well-known/jwks.json"),
        "priority": env.str("FAL_QUEUE_PRIORITY", default="normal"),
    },
    "openai": {
        "base_url": env.str("OPENAI_BASE_URL", default="https://api.openai.com/v1"),
        "api_key": env.str("OPENAI_API_KEY", default=""),
    },
    "stability": {
        "base_url": env.str("STABILITY_BASE_URL", default="https://api.stability.ai"),
        "api_key": env.str("STABILITY_API_KEY", default=""),
    },
    "elevenlabs": {
        "base_url": env.str("ELEVENLABS_BASE_URL", default="https://api.elevenlabs.io"),
        "api_key": env.str("ELEVENLABS_API_KEY", default=""),
    },
    "litellm": {
        "base_url": env.str("LITELLM_BASE_URL", default=""),
        "api_key": env.str("LITELLM_API_KEY", default=""),
    },
}
PROVIDER_CONNECT_TIMEOUT_S: float = env.float("PROVIDER_CONNECT_TIMEOUT_S", default=5.0)
PROVIDER_READ_TIMEOUT_S: float = env.float("PROVIDER_READ_TIMEOUT_S", default=30.0)
# A provider that answers with the result itself: the whole call, generation included.
PROVIDER_RESULT_TIMEOUT_S: float = env.float("PROVIDER_RESULT_TIMEOUT_S", default=240.0)
# A call that takes longer counts as slow for its breaker.
PROVIDER_SLOW_S: float = env.float("PROVIDER_SLOW_S", default=10.0)
# How long an order waits for the breakers and limits in Redis before this process decides alone.
PROVIDER_STATE_TIMEOUT_S: float = env.float("PROVIDER_STATE_TIMEOUT_S", default=0.05)
# Private and loopback addresses as callback or provider output targets: development only.
ALLOW_LOOPBACK_TARGETS: bool = env.bool("ALLOW_LOOPBACK_TARGETS", default=DEBUG)
ARTIFACT_MAX_BYTES: int = env.int("ARTIFACT_MAX_BYTES", default=200_000_000)
# A result that came with the provider's answer exists nowhere else: how long a failing storage is tried for it.
ARTIFACT_URL_TTL_S: int = env.int("ARTIFACT_URL_TTL_S", default=3600)
# How long a delivered file is kept, 0 for ever; and one that our checks refused, which only ops may see.
ARTIFACT_RETENTION_S: int = env.int("ARTIFACT_RETENTION_S", default=0)
QUARANTINE_S: int = env.int("QUARANTINE_S", default=7 * 86_400)
# The operator's CLIP model, by which pictures are compared with their prompts; none: that check is skipped.
CLIP_MODEL_DIR: str = env.str("CLIP_MODEL_DIR", default="")
# A vision model that is asked the same instead: any service that speaks OpenAI's chat completions with pictures.
VISION_JUDGE_URL: str = env.str("VISION_JUDGE_URL", default="")
VISION_JUDGE_API_KEY: str = env.str("VISION_JUDGE_API_KEY", default="")
VISION_JUDGE_MODEL: str = env.str("VISION_JUDGE_MODEL", default="gpt-4o-mini")
VISION_JUDGE_TIMEOUT_S: float = env.float("VISION_JUDGE_TIMEOUT_S", default=20.0)
# What one judgement costs at most, and what all of a day may cost: the platform pays.
VISION_JUDGE_USD: Decimal = Decimal(env.str("VISION_JUDGE_USD", default="0.002"))
VISION_JUDGE_DAILY_USD: Decimal = Decimal(env.str("VISION_JUDGE_DAILY_USD", default="5"))
# An ONNX file of NudeNet's detector instead of the one in the package `nudenet`, if that is installed.
NUDENET_MODEL: str = env.str("NUDENET_MODEL", default="")
# Who signs that a model made a file: PEM files of the operator's, or else a certificate made here at the first run.
MARK_CERTIFICATE: str = env.str("MARK_CERTIFICATE", default="")
MARK_PRIVATE_KEY: str = env.str("MARK_PRIVATE_KEY", default="")
MARK_DIR: str = env.str("MARK_DIR", default=str(BASE_DIR / ".run" / "marking"))
# A service that speaks OpenAI's moderations, for prompts and pictures; none unless somebody says where.
MODERATION_URL: str = env.str("MODERATION_URL", default="")
MODERATION_API_KEY: str = env.str("MODERATION_API_KEY", default="")
MODERATION_MODEL: str = env.str("MODERATION_MODEL", default="omni-moderation-latest")
MODERATION_TIMEOUT_S: float = env.float("MODERATION_TIMEOUT_S", default=10.0)
# While it does not answer: wait with the job (1), or go on without it (0).
MODERATION_REQUIRED: bool = env.bool("MODERATION_REQUIRED", default=True)
# How long an estimate's prices are honoured.
QUOTE_TTL_S: int = env.int("QUOTE_TTL_S", default=600)
CACHE_TTL_S: int = env.int("CACHE_TTL_S", default=86_400)
# Equal requests in flight share one render; who waits for it pays this share of its price, 0 to 1.
SINGLE_FLIGHT_SHARE: Decimal = Decimal(env.str("SINGLE_FLIGHT_SHARE", default="0"))
# Tier 3 of the cache: "minilm" (requirements/semantic.txt), "endpoint" (OpenAI-style), or empty: off.
EMBEDDER: str = env.str("EMBEDDER", default="")
EMBEDDINGS_URL: str = env.str("EMBEDDINGS_URL", default="https://api.openai.com/v1")
EMBEDDINGS_MODEL: str = env.str("EMBEDDINGS_MODEL", default="text-embedding-3-small")
EMBEDDINGS_API_KEY: str = env.str("EMBEDDINGS_API_KEY", default="")
EMBEDDINGS_TIMEOUT_S: float = env.float("EMBEDDINGS_TIMEOUT_S", default=1.0)
# A kind of difference is served only while its error, by the verdicts so far, is below this.
SEMANTIC_MAX_ERROR: float = env.float("SEMANTIC_MAX_ERROR", default=0.01)
JOB_DEADLINE_S: int = env.int("JOB_DEADLINE_S", default=3600)
# A worker that dies loses its jobs to another after this long; one that lives renews them.
JOB_LEASE_S: int = env.int("JOB_LEASE_S", default=12)
# Jobs of priority batch that are sent to a provider together, and how long one waits for others; a route may say
# otherwise.
BATCH_SIZE: int = env.int("BATCH_SIZE", default=10)
BATCH_WAIT_S: float = env.float("BATCH_WAIT_S", default=5.0)
# Such a job has this long. One that has waited so long for a place at its provider waits no more behind others.
BATCH_DEADLINE_S: int = env.int("BATCH_DEADLINE_S", default=86_400)
BATCH_AGED_S: int = env.int("BATCH_AGED_S", default=900)
JOB_MAX_ATTEMPTS: int = env.int("JOB_MAX_ATTEMPTS", default=4)
# After an ambiguous submit: how long we wait for the provider's webhook before the job fails.
UNKNOWN_WAIT_S: int = env.int("UNKNOWN_WAIT_S", default=120)
# After that the money stays held this long, for reconciliation, then the written policy releases it.
UNKNOWN_HOLD_S: int = env.int("UNKNOWN_HOLD_S", default=86_400)
IDEMPOTENCY_TTL_S: int = env.int("IDEMPOTENCY_TTL_S", default=30 * 86_400)
WAIT_MAX_S: int = env.int("WAIT_MAX_S", default=60)
# Requests that may wait for a job at once in one web process; beyond it the answer comes at once.
# It stays below the threads of a web process (genplatform/stack/processes.py), so that some are left to accept.
WAITERS_PER_PROCESS: int = env.int("WAITERS_PER_PROCESS", default=350)
BUDGET_OVERDRAFT_USD: Decimal = Decimal(env.str("BUDGET_OVERDRAFT_USD", default="0"))
# A user or team is told once a period when this much of a limit is used.
BUDGET_WARNING_PERCENTS: list[int] = env.list("BUDGET_WARNING_PERCENTS", cast=int, default=[80, 100])
# What the platform itself may pay for generations in a day before somebody is told.
ABSORBED_ALERT_USD: Decimal = Decimal(env.str("ABSORBED_ALERT_USD", default="1"))
WEBHOOK_TIMEOUT_S: float = env.float("WEBHOOK_TIMEOUT_S", default=15.0)
# Delay before each further attempt, seconds: ten attempts over about 75 hours.
WEBHOOK_RETRY_DELAYS_S: list[int] = env.list(
    "WEBHOOK_RETRY_DELAYS_S", cast=int, default=[5, 60, 300, 1800, 7200, 18_000, 36_000, 72_000, 135_000]
)

# --- Telemetry --------------------------------------------------------------------------------
# What the processes of this machine count, in files; all of them share the directory.
METRICS_DIR: str = env.str("METRICS_DIR", default=str(BASE_DIR / ".run" / "metrics"))
# Who may read /metrics: whoever knows the token; without one, this machine only and these networks.
METRICS_TOKEN: str = env.str("METRICS_TOKEN", default="")
METRICS_NETWORKS: list[str] = env.list("METRICS_NETWORKS", default=["127.0.0.0/8", "::1/128"])
# A collector's address, http(s)://host:4318: metrics and traces are sent there. None: nothing is sent, no trace made.
OTEL_EXPORTER_OTLP_ENDPOINT: str = env.str("OTEL_EXPORTER_OTLP_ENDPOINT", default="").rstrip("/")
OTEL_EXPORT_INTERVAL_S: float = env.float("OTEL_EXPORT_INTERVAL_S", default=15.0)
# The share of requests that begin a trace, 0 to 1. Who sends a traceparent decides for itself.
TRACE_SAMPLE_RATIO: float = env.float("TRACE_SAMPLE_RATIO", default=1.0)

# Where e-mail goes: to the console in development; nowhere in production until somebody says where.
_EMAIL: dict[str, Any] = env.email_url("EMAIL_URL", default="consolemail://" if DEBUG else "dummymail://")
EMAIL_BACKEND: str = _EMAIL["EMAIL_BACKEND"]
EMAIL_HOST: str = _EMAIL["EMAIL_HOST"] or "localhost"
EMAIL_PORT: int = _EMAIL["EMAIL_PORT"] or 25
EMAIL_HOST_USER: str = _EMAIL["EMAIL_HOST_USER"] or ""
EMAIL_HOST_PASSWORD: str = _EMAIL["EMAIL_HOST_PASSWORD"] or ""
EMAIL_USE_TLS: bool = _EMAIL.get("EMAIL_USE_TLS", False)
EMAIL_USE_SSL: bool = _EMAIL.get("EMAIL_USE_SSL", False)
EMAIL_FILE_PATH: str = _EMAIL["EMAIL_FILE_PATH"]
EMAIL_TIMEOUT = 15
DEFAULT_FROM_EMAIL: str = env.str("EMAIL_FROM", default="genplatform@localhost")

# Who is told of alerts, by Apprise: {"critical": [urls], …}. Those of a severity get the graver ones too.
ALERT_URLS: dict[str, list[str]] = env.json("ALERT_URLS", default={})

LOG_LEVEL: str = env.str("LOG_LEVEL", default="INFO")
_timestamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
_shared: list[Any] = [
    structlog.contextvars.merge_contextvars,
    tracing.mark,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    _timestamp,
]
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                logs.without_rows,
                structlog.processors.JSONRenderer(),
            ],
            "foreign_pre_chain": _shared,
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    # httpx logs whole URLs at INFO: ids of jobs and, in a query, tokens.
    # Celery says at INFO every ring and every task: two lines for each second of an idle platform.
    # Apprise, and urllib3 on its behalf, name the addresses of alerts, which hold secrets; whether one was told is in
    # the notice's row.
    "loggers": {
        **{
            name: {"level": "WARNING"}
            for name in ("httpx", "urllib3", "celery.beat", "celery.app.trace", "celery.worker.strategy")
        },
        "apprise": {"level": "CRITICAL", "propagate": False},
    },
}
structlog.configure(
    processors=[
        # What is not shown costs nothing more.
        structlog.stdlib.filter_by_level,
        *_shared,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
