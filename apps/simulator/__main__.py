"""`python -m apps.simulator`: serves one simulated provider until SIGTERM or SIGINT."""

import argparse
import os
import signal

import uvicorn

from apps.simulator.app import build
from apps.simulator.connection import BreakableProtocol
from apps.simulator.provider import Options


def _arguments() -> argparse.Namespace:
    env = os.environ.get
    parser = argparse.ArgumentParser(
        prog="simulator",
        description="A provider to test against. Each flag may also be given as SIMULATOR_<FLAG>.",
    )
    parser.add_argument("--host", default=env("SIMULATOR_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=env("SIMULATOR_PORT", "8900"))
    parser.add_argument(
        "--time-scale",
        type=float,
        default=env("SIMULATOR_TIME_SCALE", "1.0"),
        help="factor on generation times; 0: at once",
    )
    parser.add_argument(
        "--api-key",
        action="append",
        default=[],
        help="a key to accept, may be repeated (in the environment: comma-separated); none: any key is good",
    )
    parser.add_argument("--webhook-secret", default=env("SIMULATOR_WEBHOOK_SECRET", "whsec_c2ltdWxhdG9y"))
    parser.add_argument("--ledger", default=env("SIMULATOR_LEDGER"), help="SQLite file; default: in memory")
    parser.add_argument("--seed", type=int, default=env("SIMULATOR_SEED"), help="for repeatable timing")
    parser.add_argument("--tls-cert", default=env("SIMULATOR_TLS_CERT"), help="PEM file: serve https")
    parser.add_argument("--tls-key", default=env("SIMULATOR_TLS_KEY"), help="PEM file of its private key")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    keys = arguments.api_key or [key for key in os.environ.get("SIMULATOR_API_KEY", "").split(",") if key]
    options = Options(
        api_keys=tuple(keys),
        webhook_secret=arguments.webhook_secret,
        ledger=arguments.ledger,
        seed=arguments.seed,
        time_scale=arguments.time_scale,
    )
    # uvicorn raises the signal that stopped it once more when done; being stopped is a success here.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: None)
    uvicorn.run(
        build(options),
        host=arguments.host,
        port=arguments.port,
        http=BreakableProtocol,
        ssl_certfile=arguments.tls_cert,
        ssl_keyfile=arguments.tls_key,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        backlog=4096,
    )


if __name__ == "__main__":
    main()
