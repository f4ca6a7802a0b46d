"""`python3 -m app`: says where it runs. PORT and BIND are read from the environment."""

import os
import platform
import signal
import sys
from wsgiref.simple_server import make_server

import bottle

app = bottle.Bottle()


@app.get("/")
def index() -> dict[str, str]:
    return {"machine": platform.machine(), "python": platform.python_version(), "bottle": bottle.__version__}


@app.get("/healthz")
def health() -> str:
    return "ok\n"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with make_server(os.environ.get("BIND", "0.0.0.0"), int(os.environ.get("PORT", "8080")), app) as server:
        server.serve_forever()
