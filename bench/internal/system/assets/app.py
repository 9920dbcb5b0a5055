"""The measured service as a WSGI application."""

import fcntl
import os
import time


def next_generation(path):
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        n = int(f.read() or 0) + 1
        os.pwrite(f.fileno(), str(n).encode(), 0)
        return n


GENERATION = str(next_generation(os.environ["BENCH_COUNTER"]))


def die():
    os.write(2, b"nobody catches this\n")
    os._exit(1)


def app(environ, start_response):
    path = environ["PATH_INFO"]
    request_id = environ.get("HTTP_X_REQUEST_ID", "")
    if path == "/echo":
        body = environ["wsgi.input"].read()
    elif path == "/slow":
        time.sleep(int(environ["QUERY_STRING"].removeprefix("ms=")) / 1000)
        body = b"at last\n"
    elif path == "/panic":
        die()
    else:
        body = request_id.encode() + b"\n"
    start_response("200 OK", [
        ("Content-Length", str(len(body))),
        ("X-Request-Id", request_id),
        ("X-Generation", GENERATION),
        ("X-Pid", str(os.getpid())),
    ])
    return [body]
