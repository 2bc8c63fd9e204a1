"""gRPC servers of our own, for services no mock collector knows and for looking closer than it does: grpc-core's."""

import threading
from collections import Counter
from concurrent import futures

import grpc

CALLS_AT_ONCE = 32


class Receiver:
    """Serves what `handlers` (path: method handler) say, on a free port of 127.0.0.1, as a context."""

    def __init__(self, name, handlers):
        self.name = name
        self.seen = Counter()
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(CALLS_AT_ONCE))
        self._server.add_generic_rpc_handlers((_Exact(handlers),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(grace=None).wait()

    def saw(self, items):
        """Counts what arrived; handlers call this before they answer."""
        with self._lock:
            self.seen.update(items)

    def count(self):
        with self._lock:
            return dict(self.seen)


class _Exact(grpc.GenericRpcHandler):
    def __init__(self, handlers):
        self._handlers = handlers

    def service(self, call):
        return self._handlers.get(call.method)


def together(receivers):
    """Everything that arrived: how often, and the receivers that saw it."""
    times, where = Counter(), {}
    for receiver in receivers:
        for item, count in receiver.count().items():
            times[item] += count
            where.setdefault(item, set()).add(receiver.name)
    return times, where
